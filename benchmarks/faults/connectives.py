"""``and`` stands where ``or`` belongs, or the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "connective"
NAME = "`and` and `or` are confused"


def edits(function: Function) -> Iterator[Edit]:
    """One edit a condition of two parts (of more, all of them would have to change)."""
    for node in function.nodes:
        if isinstance(node, ast.BoolOp) and len(node.values) == 2:
            old, new = (b"and", b"or") if isinstance(node.op, ast.And) else (b"or", b"and")
            if place := function.between(node.values[0], node.values[1], old):
                yield Edit(place.start, place.end, new)
