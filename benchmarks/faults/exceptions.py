"""An exception of the wrong type is raised or caught."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "exception"
NAME = "an exception type is wrong"
TWINS = {
    "KeyError": "IndexError",
    "IndexError": "KeyError",
    "ValueError": "TypeError",
    "TypeError": "ValueError",
    "AttributeError": "KeyError",
    "StopIteration": "ValueError",
    "ImportError": "ValueError",
    "NotImplementedError": "ValueError",
}


def edits(function: Function) -> Iterator[Edit]:
    """One edit a name of a built-in exception in a ``raise`` or an ``except``."""
    for node in function.nodes:
        place: ast.AST | None = None
        if isinstance(node, ast.Raise):
            place = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        elif isinstance(node, ast.ExceptHandler):
            place = node.type
        if isinstance(place, ast.Name) and place.id in TWINS:
            yield Edit(*function.module.span(place), TWINS[place.id].encode())
