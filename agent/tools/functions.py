"""Find one function in Python text by its qualified name, show it, and make a rewritten one fit its place.

A function's block is its decorators, its header and its body: whole lines. It is found with ``ast``; in a file that
does not parse, by header lines and indentation. Where a name is defined more than once at the same place (overloads,
a property and its setter, branches) it means the last definition, which is the one that runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

Function = ast.FunctionDef | ast.AsyncFunctionDef


class NoFunction(Exception):
    """The text holds no function of that name, or a block is not one. The message is one short sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """Whole lines of a text, counted from 0, end exclusive."""

    start: int
    """First line, decorators included."""
    header: int
    """Line of ``def``."""
    end: int
    indent: str
    """What precedes ``def`` on its line."""


@lru_cache(maxsize=32)
def locate(text: str, qualname: str) -> Span:
    """Where ``Class.method`` (or ``outer.inner``) is defined. Raises :class:`NoFunction`."""
    parts = [part for part in qualname.split(".") if part != "<locals>"]
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        span = _by_lines(text.split("\n"), parts)
    else:
        span = _by_tree(text, tree, parts)
    if span is None:
        raise NoFunction(f"there is no function {qualname} in the file")
    return span


def show(text: str, span: Span) -> str:
    """The block as the prompt shows it: dedented when every line allows it, without a final newline."""
    lines = text.split("\n")[span.start : span.end]
    if all(line.startswith(span.indent) or not line.strip() for line in lines):
        lines = [line.removeprefix(span.indent) if line.strip() else "" for line in lines]
    return "\n".join(lines)


def fit(code: str, span: Span, name: str) -> tuple[str, bool]:
    """A rewritten function, indented for its place, and whether it brings decorators of its own.

    ``code`` may be dedented or indented as a whole. Raises :class:`NoFunction` when it does not parse or is anything
    but one function called ``name``.
    """
    lines = _trim(code.split("\n"))
    margin = _indent(lines[0]) if lines else ""
    flat = [line.removeprefix(margin) if line.strip() else "" for line in lines]
    node = _one_function("\n".join(flat), name)
    if margin == span.indent:
        fitted = [line if line.strip() else "" for line in lines]
    else:
        fitted = [span.indent + line if line else "" for line in flat]
    return "\n".join(fitted), bool(node.decorator_list)


def _one_function(code: str, name: str) -> Function:
    try:
        body = ast.parse(code).body
    except SyntaxError as error:
        raise NoFunction(f"the block is not valid Python: {error.msg} (line {error.lineno})") from None
    except (ValueError, RecursionError):
        raise NoFunction("the block is not valid Python") from None
    if len(body) != 1 or not isinstance(body[0], Function):
        raise NoFunction(f"the block has to be the function {name} and nothing else")
    if body[0].name != name:
        raise NoFunction(f"the block defines {body[0].name}, not {name}")
    return body[0]


def _trim(lines: list[str]) -> list[str]:
    full = [i for i, line in enumerate(lines) if line.strip()]
    return [line.rstrip("\r") for line in lines[full[0] : full[-1] + 1]] if full else []


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _by_tree(text: str, tree: ast.Module, parts: list[str]) -> Span | None:
    nodes: list[ast.stmt] = list(_definitions(tree.body))
    for part in parts[:-1]:
        nodes = [inner for node in nodes if _name(node) == part for inner in _definitions(getattr(node, "body", []))]
    found = [node for node in nodes if isinstance(node, Function) and node.name == parts[-1]]
    if not found:
        return None
    node = found[-1]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    # ast counts lines as str.splitlines does not: only \n, \r\n and \r end one. Texts here use \n alone.
    indent = _indent(text.split("\n")[node.lineno - 1])
    return Span(first - 1, node.lineno - 1, node.end_lineno or node.lineno, indent)


def _name(node: ast.stmt) -> str | None:
    return node.name if isinstance(node, Function | ast.ClassDef) else None


def _definitions(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Functions and classes of a body, those under ``if``, ``try``, ``with`` and the like included."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            yield node
            continue
        for inner in ("body", "orelse", "finalbody"):
            yield from _definitions(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _definitions(handler.body)


def _by_lines(lines: list[str], parts: list[str]) -> Span | None:
    """The same for a broken file: header lines by pattern, the block by indentation."""
    low, high = 0, len(lines)
    for part in parts[:-1]:
        header = _header(lines, low, high, rf"\s*(?:class|def|async\s+def)\s+{re.escape(part)}\b")
        if header is None:
            return None
        low, high = header + 1, _block_end(lines, header, high)
    header = _header(lines, low, high, rf"\s*(?:async\s+)?def\s+{re.escape(parts[-1])}\s*\(")
    if header is None:
        return None
    start = header
    while start > low and lines[start - 1].lstrip().startswith("@"):
        start -= 1
    return Span(start, header, _block_end(lines, header, high), _indent(lines[header]))


def _header(lines: list[str], low: int, high: int, pattern: str) -> int | None:
    found = [i for i in range(low, high) if re.match(pattern, lines[i])]
    # Of the matches the shallowest are members of this very block; deeper ones belong to what is nested in it.
    return min(reversed(found), key=lambda i: len(_indent(lines[i])), default=None)


def _block_end(lines: list[str], header: int, high: int) -> int:
    depth = len(_indent(lines[header]))
    end = header + 1
    for i in range(header + 1, high):
        line = lines[i]
        if not line.strip():
            continue
        # A closing bracket of the header may stand at the header's own depth.
        if len(_indent(line)) <= depth and line.lstrip()[0] not in ")]}#":
            break
        end = i + 1
    return end
