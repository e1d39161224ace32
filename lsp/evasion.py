"""What a diagnostic count must not fall for: the floor under D (arXiv 2510.22907 counts what the server shows; see
docs/lanser.md).

A smaller count pays only when the code was made right. So, against the start of the episode:

* a target that was deleted, or cannot be read any more, counts its starting diagnostics;
* a function or class of a target that is gone, or whose body is now a stub, counts at least its starting diagnostics;
* while the targets ask the checker to look away more often than at the start (``Any``, ``cast``,
  ``no_type_check``), the whole count does not fall below the start.

Nothing is parsed unless the count fell: with D at its start there is nothing to evade.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lsp.suppress import weakenings

Where = tuple[str, str]
"""A target's path and the qualified name inside it (empty: module level)."""


@dataclass(frozen=True)
class Baseline:
    """The start of an episode."""

    count: int
    """Counted diagnostics over all targets."""
    by_file: Mapping[str, int]
    by_symbol: Mapping[Where, int]
    """Only symbols that have diagnostics."""
    weak: int
    """How often the targets' texts asked the checker to look away."""


def baseline(places: Iterable[tuple[str, int]], texts: Mapping[str, str]) -> Baseline:
    """From (path, line) of each counted diagnostic and the targets' texts."""
    found = list(places)
    by_file = Counter(path for path, _ in found)
    return Baseline(len(found), by_file, _by_symbol(found, texts), sum(map(weakenings, texts.values())))


def floor(start: Baseline, places: Iterable[tuple[str, int]], texts: Mapping[str, str]) -> int:
    """D: the count now, raised to what evasion must not hide. ``texts`` holds the targets that can be read now."""
    found = list(places)
    kept = len(found) + sum(count for path, count in start.by_file.items() if path not in texts)
    if kept >= start.count:
        return kept
    if sum(map(weakenings, texts.values())) > start.weak:
        return start.count
    return min(start.count, kept + _hidden(start, found, texts))


def _hidden(start: Baseline, found: list[tuple[str, int]], texts: Mapping[str, str]) -> int:
    """Starting diagnostics of symbols that are gone or stubbed, beyond what is still reported there."""
    suspects = {where: count for where, count in start.by_symbol.items() if where[0] in texts and where[1]}
    blocks = {path: _blocks(texts[path]) for path in {path for path, _ in suspects}}
    now = _by_symbol(found, {path: texts[path] for path in blocks})
    hidden = 0
    for (path, name), count in suspects.items():
        block = blocks[path].get(name)
        if block is None or block.stub:
            hidden += max(0, count - now[path, name])
    return hidden


def _by_symbol(found: Iterable[tuple[str, int]], texts: Mapping[str, str]) -> Counter[Where]:
    places = [(path, line) for path, line in found if path in texts]
    blocks = {path: _blocks(texts[path]) for path in {path for path, _ in places}}
    return Counter((path, _enclosing(blocks[path], line)) for path, line in places)


@dataclass(frozen=True)
class _Block:
    """A class or function: its lines (0-based, inclusive) and whether its body does nothing."""

    first: int
    last: int
    stub: bool


def _blocks(text: str) -> dict[str, _Block]:
    """Classes and functions by qualified name; none in a file that does not parse, whose symbols then count as gone."""
    try:
        # ``ast`` rather than tree-sitter: a toolbox in a sandbox carries the standard library only.
        return dict(_walk(ast.parse(text), ""))
    except (SyntaxError, ValueError, RecursionError):
        return {}


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Block]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{child.name}"
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)]) - 1
            yield name, _Block(first, (child.end_lineno or child.lineno) - 1, all(map(_does_nothing, child.body)))
            yield from _walk(child, f"{name}.")
        else:
            yield from _walk(child, prefix)


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Return(value=None) | ast.Return(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
        case _:
            return False


def _enclosing(blocks: Mapping[str, _Block], line: int) -> str:
    """Qualified name of the innermost block that holds ``line``; empty at module level."""
    holding = [(block.first, name) for name, block in blocks.items() if block.first <= line <= block.last]
    return max(holding, default=(0, ""))[1]
