"""A whole number is one too large or one too small."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "number"
NAME = "a number is off by one"


def edits(function: Function) -> Iterator[Edit]:
    """Two edits a number up to 1000 (beyond it stand masks and tables)."""
    for node in function.nodes:
        if not isinstance(node, ast.Constant) or type(node.value) is not int or node.value > 1000:
            continue
        start, end = function.module.span(node)
        if function.module.data[start:end].isdigit():
            yield from (Edit(start, end, b"%d" % value) for value in (node.value + 1, node.value - 1) if value >= 0)
