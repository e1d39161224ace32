"""Bundles on a terminal, by rich: excerpts with the range underlined, tables grouped by file, coloured diffs.

Invariant: nothing of the bundle is read as rich's markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from lsp.wording import more, nothing, outcome, place, shown, source, tally

AROUND = 2
"""Lines shown above and below a place."""
COLOURS = {"error": "red", "warning": "yellow", "information": "blue"}
MARK = "bold underline"

Item = Mapping[str, Any]


def draw(bundle: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a bundle that succeeded."""
    console = console or Console(highlight=False)
    for part in parts(bundle):
        console.print(part)


def parts(bundle: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What there is to show, from top to bottom."""
    facts = bundle.get("facts") or {}
    root = Path(bundle["meta"]["workspace"] or ".")
    if edits := bundle.get("edits"):
        yield Syntax(edits["diff"], "diff", background_color="default")
        yield Text(outcome(edits), style="bold")
    for item in facts.get("definitions") or ([facts["location"]] if facts.get("location") else []):
        yield from _excerpt(root, item)
    if facts.get("definitions") == []:
        yield Text("no definitions")
    if "references" in facts:
        yield _references(root, facts["references"])
    yield from map(Text, more(bundle))
    if "hover" in facts:
        yield Text(facts["hover"] or "nothing to say about that place")
    if facts.get("symbolId"):
        yield Text(f"symbolId {facts['symbolId']}", style="dim")
    if facts.get("anchor"):
        yield Text(facts["anchor"], style="dim")
    if facts.get("symbols"):
        yield _grouped(facts["symbols"], lambda item: (Text(item["name"]),))
    yield from map(Text, nothing(facts))
    for item in facts.get("actions") or []:
        yield Text.assemble((item["kind"] or "action", "cyan"), f"  {item['title']}")
    if "diagnostics" in facts:
        yield _grouped(shown(facts), _diagnostic)
        yield from (Text(line, style="bold") for line in tally(facts))


def _excerpt(root: Path, item: Item) -> Iterator[RenderableType]:
    yield Text(place(item), style="bold")
    lines = source(root, item["uri"])
    first, start, last, end = item["range"]
    if first >= len(lines):
        return
    shown = (max(1, first + 1 - AROUND), min(len(lines), last + 1 + AROUND))
    lexer = Syntax.guess_lexer(item["uri"])
    code = Syntax(
        "\n".join(lines), lexer, line_numbers=True, line_range=shown, highlight_lines={first + 1}, theme="ansi_dark"
    )
    code.stylize_range(MARK, (first + 1, start), (last + 1, max(end, start + 1)))
    yield code


def _references(root: Path, items: Sequence[Item]) -> RenderableType:
    texts: dict[str, list[str]] = {}

    def line(item: Item) -> tuple[Text]:
        lines = texts.setdefault(item["uri"], source(root, item["uri"]))
        first, start, last, end = item["range"]
        whole = lines[first] if first < len(lines) else ""
        text = Text(whole)
        text.stylize(MARK, start, end if first == last else len(whole))
        return (text[len(whole) - len(whole.lstrip()) :],)

    return _grouped(items, line) if items else Text("no references")


def _diagnostic(item: Item) -> tuple[Text, Text, Text]:
    colour = COLOURS.get(item["severity"], "")
    return Text(item["severity"], style=colour), Text(item["message"].split("\n")[0]), Text(item["code"], style="dim")


def _grouped(items: Sequence[Item], columns: Any) -> Table:
    """A table with a line for each file, and below it one for each place in it."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    for uri, found in groupby(items, key=lambda item: item["uri"]):
        group = list(found)
        table.add_row("", Text(f"{uri} ({len(group)})", style="bold"))
        for item in group:
            table.add_row(f"{item['range'][0] + 1}:{item['range'][1] + 1}", *columns(item))
    return table
