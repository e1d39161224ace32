"""``True`` stands where ``False`` belongs, or the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "boolean"
NAME = "`True` and `False` are confused"


def edits(function: Function) -> Iterator[Edit]:
    """One edit a constant."""
    for node in function.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield Edit(*function.module.span(node), b"False" if node.value else b"True")
