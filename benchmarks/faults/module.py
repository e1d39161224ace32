"""A module's text and its functions, with exact places: what every kind of fault looks at and edits.

Places are byte offsets into the file, because ``ast`` counts columns in bytes of UTF-8. An edit replaces one span and
leaves every other byte alone.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Edit:
    """``data[start:end]`` becomes ``new``."""

    start: int
    end: int
    new: bytes

    def apply(self, data: bytes) -> bytes:
        """The edited file."""
        return data[: self.start] + self.new + data[self.end :]


class Module:
    """One parsed file. Raises ``SyntaxError`` or ``ValueError`` for what is no Python in UTF-8 with plain newlines."""

    def __init__(self, data: bytes) -> None:
        if b"\r" in data or b"\f" in data or data.startswith(b"\xef\xbb\xbf") or not data.endswith(b"\n"):
            raise ValueError("not every line ends with a plain newline: the places that ast gives would be off")
        self.data = data
        self.tree = ast.parse(data.decode())
        self._lines = [0]
        for line in data.split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def offset(self, line: int, column: int) -> int:
        """Byte offset of a place as ast counts it (lines from 1, columns from 0)."""
        return self._lines[line - 1] + column

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Byte offsets of a node, without parentheses around it."""
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno or 0, node.end_col_offset or 0)

    def text(self, node: ast.expr | ast.stmt) -> bytes:
        """The bytes of a node."""
        start, end = self.span(node)
        return self.data[start:end]

    def functions(self) -> list[Function]:
        """Functions of the module and methods of its classes, those with a name that is unique in the file."""
        found = [Function(self, node, name) for node, name in _definitions(self.tree.body, "")]
        count = Counter(function.qualname for function in found)
        return [function for function in found if count[function.qualname] == 1]


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[Def, str]]:
    for node in body:
        if isinstance(node, Def):
            yield node, prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        else:
            for inner in ("body", "orelse", "finalbody"):
                yield from _definitions(getattr(node, inner, []), prefix)
            for handler in getattr(node, "handlers", []):
                yield from _definitions(handler.body, prefix)


@dataclass(frozen=True)
class Function:
    """One function or method."""

    module: Module
    node: Def
    qualname: str

    @cached_property
    def docstring(self) -> ast.stmt | None:
        """The statement that holds it."""
        first = self.node.body[0]
        return first if ast.get_docstring(self.node, clean=False) is not None else None

    @cached_property
    def block(self) -> tuple[int, int]:
        """Byte offsets of the whole lines from the first decorator to the end, without the last newline."""
        first = min([self.node.lineno, *(decorator.lineno for decorator in self.node.decorator_list)])
        return self.module.offset(first, 0), self.module.span(self.node)[1]

    @property
    def source(self) -> bytes:
        """The bytes of the block."""
        start, end = self.block
        return self.module.data[start:end]

    @property
    def lines(self) -> int:
        """Lines from ``def`` to the last one, without those of the docstring (blank and comment lines count)."""
        doc = self.docstring
        return _height(self.node) - (_height(doc) if doc else 0)

    def parses(self, edit: Edit) -> bool:
        """Whether the edited function is Python and another syntax tree than before."""
        start, _ = self.block
        inner = Edit(edit.start - start, edit.end - start, edit.new)
        try:
            tree = _alone(inner.apply(self.source))
        except (SyntaxError, ValueError):
            return False
        # Only a swap leaves the same characters: only then can the tree be the same, and only then is it compared.
        old = self.module.data[edit.start : edit.end]
        return sorted(old) != sorted(edit.new) or ast.dump(tree) != self._dump

    @cached_property
    def _dump(self) -> str:
        return ast.dump(_alone(self.source))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Nodes of the body and of the defaults, in order: no docstring, annotation, decorator or f-string."""
        body = [node for node in self.node.body if node is not self.docstring]
        defaults = [node for node in (*self.node.args.defaults, *self.node.args.kw_defaults) if node]
        return [node for top in (*defaults, *body) for node in _walk(top)]

    @cached_property
    def names(self) -> list[str]:
        """Parameters and local variables, in order of appearance."""
        arguments = self.node.args
        params = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        stored = [node.id for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        return list(dict.fromkeys([*(param.arg for param in params), *stored]))

    def between(self, left: ast.expr, right: ast.expr, token: bytes) -> Edit | None:
        """The place of an operator between two expressions, as an edit that changes nothing; ``None`` when a comment
        is near.
        """
        start, end = self.module.span(left)[1], self.module.span(right)[0]
        gap = self.module.data[start:end]
        found = re.fullmatch(rb"[\s)\\]*(" + rb"\s+".join(map(re.escape, token.split())) + rb")[\s(\\]*", gap)
        return Edit(start + found.start(1), start + found.end(1), found.group(1)) if found else None


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _alone(source: bytes) -> ast.AST:
    """The tree of an indented block."""
    text = source.decode()
    return ast.parse(f"if 1:\n{text}" if text[:1] in " \t" else text)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _walk(child)
