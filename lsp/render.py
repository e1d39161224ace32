"""Bundles for people: plain text when piped, :mod:`lsp.terminal` on a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from lsp.text import decode

Bundle = Mapping[str, Any]
REFUSALS = {
    "jail": "outside the workspace",
    "filters": "a path is denied",
    "unambiguous": "the selector is not exact",
    "clean": "uncommitted changes (--allow-dirty)",
}
"""Safety checks that failed, in words."""


def show(bundle: Bundle) -> None:
    """Print a bundle that succeeded."""
    if sys.stdout.isatty():
        from lsp.terminal import draw

        draw(bundle)
    else:
        for line in plain(bundle):
            print(line)


def plain(bundle: Bundle) -> Iterable[str]:
    """Lines of text."""
    facts = bundle.get("facts") or {}
    root = Path(bundle["meta"]["workspace"] or ".")
    if bundle.get("edits"):
        yield from _edits(bundle["edits"])
    for key in ("definitions", "references"):
        if key in facts:
            yield from _places(root, facts[key], key)
    yield from more(bundle)
    if "hover" in facts:
        yield facts["hover"] or "nothing to say about that place"
    if "location" in facts:
        yield from _excerpt(root, facts["location"])
        if facts.get("symbolId"):
            yield f"  symbolId {facts['symbolId']}"
        if facts.get("anchor"):
            yield f"  {facts['anchor']}"
    for item in facts.get("symbols") or []:
        yield f"{place(item)}  {item['name']}"
    for item in facts.get("actions") or []:
        yield f"{item['kind'] or 'action'}  {item['title']}"
    yield from nothing(facts)
    if "diagnostics" in facts:
        yield from _diagnostics(facts)


def more(bundle: Bundle) -> Iterable[str]:
    """How to get the next page, when there is one."""
    cursor = bundle["meta"]["cursor"]
    if cursor:
        yield f"the first of {bundle['facts']['total']}; go on with --cursor {cursor}"


def nothing(facts: Mapping[str, Any]) -> Iterable[str]:
    """What is said of a list without an entry."""
    for key, said in (("symbols", "no symbols"), ("actions", "no code actions there")):
        if facts.get(key) == []:
            yield said


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def shown(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The diagnostics that people want to see: not suppressed, no hints; the new ones when a revision was compared."""
    new = facts.get("new")
    found = facts["diagnostics"] if new is None else new
    return [item for item in found if not item["suppressed"] and item["severity"] != "hint"]


def tally(facts: Mapping[str, Any]) -> Iterable[str]:
    """What a list of diagnostics comes to."""
    targets = facts["targets"]
    yield from (f"{path}: cannot be read as text: it was not checked" for path in targets["unreadable"])
    files = counted(targets["count"] - len(targets["unreadable"]), "file")
    counts = Counter(item["severity"] for item in facts["diagnostics"] if not item["suppressed"])
    more = f" (and {facts['suppressed']} suppressed)" if facts["suppressed"] else ""
    yield f"{_severities(counts)} in {files}{more}"
    if facts.get("new") is not None:
        new = Counter(item["severity"] for item in facts["new"] if not item["suppressed"])
        yield f"new against {facts['base']}: {_severities(new)}"


def _severities(counts: Mapping[str, int]) -> str:
    return f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"


def outcome(edits: Mapping[str, Any]) -> str:
    """What became of a mutation."""
    files = counted(len(edits["workspaceEdit"].get("changes", {})), "file")
    failed = [REFUSALS.get(str(name), str(name)) for name, passed in edits["checks"].items() if not passed]
    if edits["applied"]:
        return f"written: {files}"
    if failed:
        return f"preview of {files}; --apply would be refused: {', '.join(failed)}"
    return f"preview of {files}; --apply writes"


def source(root: Path, uri: str) -> list[str]:
    """Lines of a file of the workspace; none of one that cannot be read."""
    try:
        return decode((root / uri).read_bytes()).text.splitlines()
    except (OSError, ValueError):
        return []


def place(item: Mapping[str, Any]) -> str:
    """``path:line:column``, 1-based, as compilers write it."""
    return f"{item['uri']}:{item['range'][0] + 1}:{item['range'][1] + 1}"


def _places(root: Path, items: list[dict[str, Any]], what: str) -> Iterable[str]:
    if not items:
        yield f"no {what}"
    if what == "definitions":
        for item in items:
            yield from _excerpt(root, item)
        return
    for uri, group in groupby(items, key=lambda item: item["uri"]):
        found = list(group)
        yield f"{uri} ({len(found)})"
        text = source(root, uri)
        for item in found:
            line = item["range"][0]
            excerpt = text[line].strip() if line < len(text) else ""
            yield f"  {line + 1}:{item['range'][1] + 1}  {excerpt}"


def _excerpt(root: Path, item: Mapping[str, Any]) -> Iterable[str]:
    yield place(item)
    first, start, last, end = item["range"]
    text = source(root, item["uri"])
    if first < len(text):
        line = text[first].expandtabs(1)
        stop = end if first == last else len(line)
        yield f"  {line}"
        yield "  " + " " * start + "^" * max(1, stop - start)


def _diagnostics(facts: Mapping[str, Any]) -> Iterable[str]:
    for item in shown(facts):
        code = f" [{item['code']}]" if item["code"] else ""
        first = item["message"].split("\n")[0]
        yield f"{place(item)}: {item['severity']}: {first}{code}"
    yield from tally(facts)


def _edits(edits: Mapping[str, Any]) -> Iterable[str]:
    if edits["diff"]:
        yield from edits["diff"].rstrip("\n").split("\n")
    yield outcome(edits)
