"""``break`` stands where ``continue`` belongs, or the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "jump"
NAME = "`break` and `continue` are confused"


def edits(function: Function) -> Iterator[Edit]:
    """One edit a jump."""
    for node in function.nodes:
        if isinstance(node, ast.Break | ast.Continue):
            yield Edit(*function.module.span(node), b"continue" if isinstance(node, ast.Break) else b"break")
