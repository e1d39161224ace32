"""Bundles for people: plain text when piped, rich on a terminal. Rich is imported only for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from lsp.text import decode

Bundle = Mapping[str, Any]


def show(bundle: Bundle) -> None:
    """Print a bundle that succeeded."""
    lines = list(plain(bundle))
    if not sys.stdout.isatty():
        print("\n".join(lines))
        return
    from rich.console import Console
    from rich.syntax import Syntax

    console = Console(highlight=False)
    diff = (bundle.get("edits") or {}).get("diff")
    if diff:
        console.print(Syntax(diff, "diff", background_color="default"))
        lines = lines[len(diff.rstrip("\n").split("\n")) :]
    for line in lines:
        console.print(line, markup=False, style="bold" if line and not line.startswith(" ") else "")


def plain(bundle: Bundle) -> Iterable[str]:
    """Lines of text."""
    facts = bundle.get("facts") or {}
    root = Path(bundle["meta"]["workspace"] or ".")
    if bundle.get("edits"):
        yield from _edits(bundle["edits"])
    for key in ("definitions", "references"):
        if key in facts:
            yield from _places(root, facts[key], key)
    if "hover" in facts:
        yield facts["hover"] or "nothing to say about that place"
    if "location" in facts:
        yield from _excerpt(root, facts["location"])
        if facts.get("symbolId"):
            yield f"  symbolId {facts['symbolId']}"
    for item in facts.get("symbols") or []:
        yield f"{place(item)}  {item['name']}"
    for item in facts.get("actions") or []:
        yield f"{item['kind'] or 'action'}  {item['title']}"
    if "diagnostics" in facts:
        yield from _diagnostics(facts)


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
        text = _lines(root, uri)
        for item in found:
            line = item["range"][0]
            source = text[line].strip() if line < len(text) else ""
            yield f"  {line + 1}:{item['range'][1] + 1}  {source}"


def _excerpt(root: Path, item: Mapping[str, Any]) -> Iterable[str]:
    yield place(item)
    first, start, last, end = item["range"]
    text = _lines(root, item["uri"])
    if first < len(text):
        line = text[first].expandtabs(1)
        stop = end if first == last else len(line)
        yield f"  {line}"
        yield "  " + " " * start + "^" * max(1, stop - start)


def _diagnostics(facts: Mapping[str, Any]) -> Iterable[str]:
    new = facts.get("new")
    shown = facts["diagnostics"] if new is None else new
    for item in shown:
        if not item["suppressed"] and item["severity"] != "hint":
            code = f" [{item['code']}]" if item["code"] else ""
            first = item["message"].split("\n")[0]
            yield f"{place(item)}: {item['severity']}: {first}{code}"
    counts = facts["counts"]
    total = f"{counts['error']} errors, {counts['warning']} warnings in {facts['targets']['count']} files"
    yield total + (f" ({facts['suppressed']} suppressed)" if facts["suppressed"] else "")
    if new is not None:
        yield f"{len(new)} new against {facts['base']}"


def _edits(edits: Mapping[str, Any]) -> Iterable[str]:
    if edits["diff"]:
        yield from edits["diff"].rstrip("\n").split("\n")
    files = len(edits["workspaceEdit"].get("changes", {}))
    failed = [name for name, passed in edits["checks"].items() if not passed]
    if edits["applied"]:
        yield f"written: {files} files"
    elif failed:
        yield f"preview of {files} files; --apply would be refused by: {', '.join(failed)}"
    else:
        yield f"preview of {files} files; --apply writes them"


def _lines(root: Path, uri: str) -> list[str]:
    try:
        return decode((root / uri).read_bytes()).text.splitlines()
    except (OSError, ValueError):
        return []
