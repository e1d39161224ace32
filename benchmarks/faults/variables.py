"""One variable of the function is used where another one belongs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "variable"
NAME = "a wrong variable is used"
OWNERS = ("self", "cls")


def edits(function: Function) -> Iterator[Edit]:
    """One edit a use of a variable: the next other name of the function takes its place."""
    names = [name for name in function.names if name not in OWNERS]
    if len(names) < 2:
        return
    for node in function.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            other = names[(names.index(node.id) + 1) % len(names)]
            yield Edit(*function.module.span(node), other.encode())
