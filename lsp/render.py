"""Bundles for people: plain text when piped, :mod:`lsp.terminal` on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from lsp.wording import more, nothing, outcome, place, shown, source, tally

Bundle = Mapping[str, Any]


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
