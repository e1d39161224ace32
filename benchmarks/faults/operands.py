"""The two sides of an operator that does not commute are swapped."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "operands"
NAME = "two operands are swapped"
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
SIMPLE = (ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.Subscript)


def edits(function: Function) -> Iterator[Edit]:
    """One edit an operator between two simple expressions on one line."""
    for node in function.nodes:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ORDERED) or node.lineno != node.end_lineno:
            continue
        if isinstance(node.left, SIMPLE) and isinstance(node.right, SIMPLE) and not _string(node.left):
            yield swapped(function, node.left, node.right)


def swapped[Node: (ast.expr, ast.stmt)](function: Function, first: Node, second: Node) -> Edit:
    """The edit that exchanges two expressions or statements, of which ``first`` stands before ``second``."""
    module = function.module
    (start, middle), (resume, end) = module.span(first), module.span(second)
    return Edit(start, end, module.data[resume:end] + module.data[middle:resume] + module.data[start:middle])


def _string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
