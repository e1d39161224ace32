"""A value is computed and not returned."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "return"
NAME = "a `return` is missing"


def edits(function: Function) -> Iterator[Edit]:
    """``return call(...)`` becomes ``call(...)``."""
    for node in function.nodes:
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            start = function.module.span(node)[0]
            if function.module.data[start:].startswith(b"return "):
                yield Edit(start, start + len(b"return "), b"")
