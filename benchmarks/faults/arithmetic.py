"""An arithmetic or bit operator is another one, in an expression or in an augmented assignment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from benchmarks.faults.module import Edit, Function

KIND = "arithmetic"
NAME = "an arithmetic operator is wrong"
TOKENS: dict[type[ast.operator], bytes] = {
    ast.Add: b"+",
    ast.Sub: b"-",
    ast.Mult: b"*",
    ast.Div: b"/",
    ast.FloorDiv: b"//",
    ast.Mod: b"%",
    ast.Pow: b"**",
    ast.BitAnd: b"&",
    ast.BitOr: b"|",
    ast.LShift: b"<<",
    ast.RShift: b">>",
}
PARTNER = {
    b"+": b"-",
    b"-": b"+",
    b"*": b"+",
    b"/": b"*",
    b"//": b"%",
    b"%": b"//",
    b"**": b"*",
    b"&": b"|",
    b"|": b"&",
    b"<<": b">>",
    b">>": b"<<",
}


def edits(function: Function) -> Iterator[Edit]:
    """One edit an operator; none beside a string, whose only operators are ``+``, ``*`` and ``%``."""
    for node in function.nodes:
        if isinstance(node, ast.BinOp):
            left, right = node.left, node.right
        elif isinstance(node, ast.AugAssign):
            left, right = node.target, node.value
        else:
            continue
        if type(node.op) not in TOKENS or _string(left) or _string(right):
            continue
        token, tail = TOKENS[type(node.op)], b"=" if isinstance(node, ast.AugAssign) else b""
        if place := function.between(left, right, token + tail):
            yield Edit(place.start, place.end, PARTNER[token] + tail)


def _string(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
