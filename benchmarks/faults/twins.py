"""A function or method is called whose name or use is close to the right one's."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "twin"
NAME = "a wrong function or method is called"
_METHODS = [
    ("lower", "upper"),
    ("startswith", "endswith"),
    ("lstrip", "rstrip"),
    ("append", "extend"),
    ("keys", "values"),
    ("values", "items"),
    ("union", "intersection"),
    ("issubset", "issuperset"),
    ("find", "rfind"),
    ("index", "rindex"),
    ("partition", "rpartition"),
    ("split", "rsplit"),
    ("add", "discard"),
    ("popleft", "pop"),
    ("appendleft", "append"),
    ("ljust", "rjust"),
    ("isdigit", "isalpha"),
    ("isupper", "islower"),
    ("encode", "decode"),
    ("match", "search"),
    ("group", "groups"),
]
_BUILTINS = [
    ("min", "max"),
    ("any", "all"),
    ("isinstance", "issubclass"),
    ("list", "set"),
    ("tuple", "list"),
    ("sorted", "reversed"),
    ("hasattr", "getattr"),
    ("int", "float"),
    ("iter", "list"),
    ("filter", "map"),
    ("str", "repr"),
    ("bisect_left", "bisect_right"),
    ("takewhile", "dropwhile"),
]


def _both(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return {**{right: left for left, right in pairs}, **dict(pairs)}


METHODS, BUILTINS = _both(_METHODS), _both(_BUILTINS)


def edits(function: Function) -> Iterator[Edit]:
    """One edit a call whose name has a twin."""
    for node in function.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        _, end = function.module.span(called)
        if isinstance(called, ast.Name) and called.id in BUILTINS:
            yield Edit(end - len(called.id), end, BUILTINS[called.id].encode())
        elif isinstance(called, ast.Attribute) and called.attr in METHODS:
            yield Edit(end - len(called.attr), end, METHODS[called.attr].encode())
