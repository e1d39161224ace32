"""A comparison is the opposite of what it should be: ``==`` and ``!=``, ``<`` and ``>=``, ``in`` and ``not in``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "comparison"
NAME = "a comparison is the opposite of what it should be"
TOKENS: dict[type[ast.cmpop], bytes] = {
    ast.Eq: b"==",
    ast.NotEq: b"!=",
    ast.Lt: b"<",
    ast.GtE: b">=",
    ast.Gt: b">",
    ast.LtE: b"<=",
    ast.In: b"in",
    ast.NotIn: b"not in",
    ast.Is: b"is",
    ast.IsNot: b"is not",
}
OPPOSITE = {
    b"==": b"!=",
    b"!=": b"==",
    b"<": b">=",
    b">=": b"<",
    b">": b"<=",
    b"<=": b">",
    b"in": b"not in",
    b"not in": b"in",
    b"is": b"is not",
    b"is not": b"is",
}


def edits(function: Function) -> Iterator[Edit]:
    """One edit a comparison."""
    yield from replaced(function, OPPOSITE)


def replaced(function: Function, table: dict[bytes, bytes]) -> Iterator[Edit]:
    """Every comparison operator of ``table`` replaced by its partner."""
    for node in function.nodes:
        if not isinstance(node, ast.Compare):
            continue
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            token = TOKENS[type(operator)]
            place = function.between(left, right, token) if token in table else None
            if place:
                yield Edit(place.start, place.end, table[token])
