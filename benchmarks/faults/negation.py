"""A condition lacks its ``not``, or has one too many."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "negation"
NAME = "a `not` is missing or one too many"
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)


def edits(function: Function) -> Iterator[Edit]:
    """``not x`` becomes ``x``; the plain test of an ``if``, ``while`` or conditional expression gets a ``not``."""
    for node in function.nodes:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and isinstance(node.operand, PLAIN):
            yield Edit(function.module.span(node)[0], function.module.span(node.operand)[0], b"")
        elif isinstance(node, ast.If | ast.While | ast.IfExp) and isinstance(node.test, PLAIN):
            start, _ = function.module.span(node.test)
            yield Edit(start, start, b"not ")
