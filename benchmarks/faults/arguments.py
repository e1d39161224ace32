"""Two neighbouring arguments of a call are swapped."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function
from benchmarks.faults.operands import swapped

KIND = "arguments"
NAME = "two arguments are swapped"
SIMPLE = (ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Call)


def edits(function: Function) -> Iterator[Edit]:
    """One edit a pair of simple positional arguments on one line."""
    for node in function.nodes:
        if not isinstance(node, ast.Call):
            continue
        for first, second in zip(node.args, node.args[1:], strict=False):
            if isinstance(first, SIMPLE) and isinstance(second, SIMPLE) and first.lineno == second.end_lineno:
                yield swapped(function, first, second)
