"""The workspace that lanser is measured on, click 8.1.7, and what is asked of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.packages import Package
from benchmarks.sources import pristine
from lsp.symbols import outline
from sandbox.grading.tree import write_tree

CLICK = Package(
    name="click",
    version="8.1.7",
    sha256="ca9853ad459e787e2192211578cc907e7594e294c7ccc834310722b41b9ca6de",
    license="BSD-3-Clause",
    split="train",
    source=("src",),
)
CORE = "src/click/core.py"
SYMBOLS = (
    "Context.invoke",
    "Context.forward",
    "Command.main",
    "Command.parse_args",
    "Group.command",
    "Option.prompt_for_value",
)


def lay_out(root: Path) -> Path:
    """A copy of click's source distribution."""
    root.mkdir()
    write_tree(pristine(CLICK), root)
    return root


def positions(root: Path) -> list[tuple[int, int]]:
    """Where the names of :data:`SYMBOLS` are defined in click's core, 0-based."""
    found = outline((root / CORE).read_text("utf-8"))
    return [symbol.name_span[:2] for name in SYMBOLS if (symbol := found.find(name)) is not None]


def mixed(root: Path, count: int) -> list[tuple[str, str]]:
    """Queries of four verbs at the functions of click's core in turn."""
    symbols = [one for one in outline((root / CORE).read_text("utf-8")).symbols if one.kind == "def"]
    verbs = ("def", "hover", "refs", "locate")
    made = list[tuple[str, str]]()
    for index in range(count):
        symbol = symbols[index * 7 % len(symbols)]
        line, column = symbol.name_span[:2]
        made.append((verbs[index % 4], f"{CORE}@L{line + 1}:C{column + 1}"))
    return made
