"""A statement is missing: a call or an augmented assignment is replaced by ``pass``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "statement"
NAME = "a statement is missing"


def edits(function: Function) -> Iterator[Edit]:
    """One edit a statement on one line."""
    for node in function.nodes:
        if isinstance(node, ast.Expr | ast.AugAssign) and node.lineno == node.end_lineno and _lost(node):
            yield Edit(*function.module.span(node), b"pass")


def _lost(node: ast.Expr | ast.AugAssign) -> bool:
    return isinstance(node, ast.AugAssign) or isinstance(node.value, ast.Call)
