"""The two branches of a conditional expression, or of an ``if`` with one simple line each, are swapped."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function
from benchmarks.faults.operands import swapped

KIND = "branches"
NAME = "the two branches of a condition are swapped"


def edits(function: Function) -> Iterator[Edit]:
    """One edit a condition."""
    for node in function.nodes:
        if isinstance(node, ast.IfExp):
            yield swapped(function, node.body, node.orelse)
        elif (
            isinstance(node, ast.If)
            and len(node.body) == len(node.orelse) == 1
            and _plain(node.body[0], node.orelse[0])
        ):
            yield swapped(function, node.body[0], node.orelse[0])


def _plain(*statements: ast.stmt) -> bool:
    return all(isinstance(statement, ast.Return | ast.Assign | ast.Expr | ast.AugAssign) for statement in statements)
