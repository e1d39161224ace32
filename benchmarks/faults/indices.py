"""The wrong end is taken: the first item for the last, the head of a slice for its tail."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "index"
NAME = "an index or a slice takes the wrong end"


def edits(function: Function) -> Iterator[Edit]:
    """``[0]`` and ``[-1]``, ``[x:]`` and ``[:x]``."""
    for node in function.nodes:
        if isinstance(node, ast.Subscript):
            edit = _sliced(function, node.slice) if isinstance(node.slice, ast.Slice) else _item(function, node.slice)
            if edit:
                yield edit


def _item(function: Function, index: ast.expr) -> Edit | None:
    twin = {b"0": b"-1", b"-1": b"0"}.get(function.module.text(index))
    return Edit(*function.module.span(index), twin) if twin else None


def _sliced(function: Function, part: ast.Slice) -> Edit | None:
    if part.step or (part.lower is None) == (part.upper is None):
        return None
    start, end = function.module.span(part)
    text = function.module.data[start:end]
    if part.lower:
        return Edit(start, end, b":" + text[:-1]) if text.endswith(b":") else None
    return Edit(start, end, text[1:] + b":") if text.startswith(b":") else None
