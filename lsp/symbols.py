"""Symbols of a Python file by tree-sitter: survives broken files, finds what is there.

Every definition (class, function, assignment at module or class level) becomes a :class:`Symbol` with its qualified
name and the ranges that the roles of a selector name. Invariants: symbols are in source order; ranges are in code
points and nest as the code does; a broken file yields what its intact parts define. ``symbolId`` is in
:mod:`lsp.fingerprint`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from lsp.positions import Range, Text

Kind = Literal["class", "def", "assign"]
Role = Literal["def", "sig", "body", "doc"]
_TOKEN = re.compile(r"\w+|[^\w\s]")
_ACCESSORS = ("setter", "deleter")


@dataclass(frozen=True)
class Symbol:
    """One definition."""

    kind: Kind
    qualname: str
    span: Range
    """Decorators included."""
    name_span: Range
    sig: Range
    """From ``def`` or ``class`` to the colon, exclusive."""
    body: Range
    doc: Range | None
    parents: tuple[tuple[str, str], ...]
    """Kind and name of each enclosing definition, outermost first."""
    decorators: tuple[str, ...] = ()
    text: str = field(default="", repr=False)
    """Source of ``span``."""
    body_text: str = field(default="", repr=False)
    sig_text: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        return self.qualname.rpartition(".")[2]

    @property
    def overload(self) -> bool:
        return any(name.rpartition(".")[2] == "overload" for name in self.decorators)

    @property
    def accessor(self) -> bool:
        """A setter or deleter of a property, which is not what the property's name means."""
        return any(name.rpartition(".")[2] in _ACCESSORS for name in self.decorators)

    def range_of(self, role: Role | None) -> Range:
        """The range that a role names; without one, the name itself. A symbol without a docstring has an empty one at
        its body.
        """
        if role is None:
            return self.name_span
        if role == "doc":
            return self.doc or (*self.body[:2], *self.body[:2])
        return {"def": self.span, "sig": self.sig, "body": self.body}[role]


@dataclass(frozen=True)
class Outline:
    """All symbols of one file."""

    symbols: tuple[Symbol, ...]

    def named(self, qualname: str) -> list[Symbol]:
        """Every definition of ``qualname``, in source order."""
        return [symbol for symbol in self.symbols if symbol.qualname == qualname]

    def find(self, qualname: str) -> Symbol | None:
        """The last definition of ``qualname``, which is the one that counts."""
        found = self.named(qualname)
        return found[-1] if found else None

    def enclosing(self, line: int) -> str:
        """Qualified name of the innermost class or function that holds ``line``; empty at module level."""
        best = ""
        for symbol in self.symbols:
            if symbol.kind != "assign" and symbol.span[0] <= line <= symbol.span[2]:
                best = symbol.qualname
        return best


def tokens(text: str) -> list[str]:
    """Words and punctuation, white space dropped."""
    return _TOKEN.findall(text)


@lru_cache(256)
def outline(text: str) -> Outline:
    """The symbols of ``text``."""
    source = _Source(text)
    return Outline(tuple(_walk(source, source.root, ())))


class _Source:
    """A parsed text; nodes to ranges in code points."""

    def __init__(self, text: str) -> None:
        self.text = Text(text)
        self.data = text.encode("utf-8", "surrogatepass")
        self.root: Any = _parser()(self.data)

    @cached_property
    def _wide(self) -> tuple[list[int], list[int]]:
        """Byte offset after each wide character, and the bytes beyond one each up to there."""
        ends, extra, byte, total = list[int](), list[int](), 0, 0
        for char in self.text.text:
            size = 1 if char < "\x80" else len(char.encode("utf-8", "surrogatepass"))
            byte += size
            if size > 1:
                total += size - 1
                ends.append(byte)
                extra.append(total)
        return ends, extra

    def offset(self, byte: int) -> int:
        """Code point index of a byte offset at a character's edge."""
        ends, extra = self._wide
        index = bisect_left(ends, byte + 1)
        return byte - (extra[index - 1] if index else 0)

    def span(self, start: int, end: int) -> Range:
        return (*self.text.position(self.offset(start)), *self.text.position(self.offset(end)))

    def source(self, node: Any) -> str:
        return self.data[node.start_byte : node.end_byte].decode("utf-8", "surrogatepass")


@lru_cache(1)
def _parser() -> Callable[[bytes], Any]:
    import tree_sitter
    import tree_sitter_python

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))
    return lambda data: parser.parse(data).root_node


def _walk(source: _Source, node: Any, parents: tuple[tuple[str, str], ...]) -> Iterator[Symbol]:
    for child in node.named_children:
        if child.type == "decorated_definition":
            definition = child.child_by_field_name("definition")
            if definition is not None:
                yield from _definition(source, definition, child, parents)
        elif child.type in ("function_definition", "class_definition"):
            yield from _definition(source, child, child, parents)
        elif child.type == "expression_statement" and not any(kind == "def" for kind, _ in parents):
            yield from _assignments(source, child, parents)
        elif child.type not in ("expression_statement", "comment"):
            yield from _walk(source, child, parents)


def _definition(source: _Source, node: Any, outer: Any, parents: tuple[tuple[str, str], ...]) -> Iterator[Symbol]:
    name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
    if name is None or body is None:
        return
    kind: Kind = "class" if node.type == "class_definition" else "def"
    colon = next((child for child in node.children if child.type == ":"), body)
    text = source.source(name)
    doc = _docstring(body)
    yield Symbol(
        kind=kind,
        qualname=".".join([*(part for _, part in parents), text]),
        span=source.span(outer.start_byte, outer.end_byte),
        name_span=source.span(name.start_byte, name.end_byte),
        sig=source.span(node.start_byte, colon.start_byte),
        body=source.span(body.start_byte, body.end_byte),
        doc=source.span(doc.start_byte, doc.end_byte) if doc is not None else None,
        parents=parents,
        decorators=tuple(_decorators(source, outer)),
        text=source.source(outer),
        body_text=source.source(body),
        sig_text=source.data[node.start_byte : colon.start_byte].decode("utf-8", "surrogatepass"),
    )
    yield from _walk(source, body, (*parents, (kind, text)))


def _assignments(source: _Source, statement: Any, parents: tuple[tuple[str, str], ...]) -> Iterator[Symbol]:
    for node in statement.named_children:
        target = node.child_by_field_name("left") if node.type == "assignment" else None
        if target is None or target.type != "identifier":
            continue
        name = source.span(target.start_byte, target.end_byte)
        right = node.child_by_field_name("right") or node
        yield Symbol(
            kind="assign",
            qualname=".".join([*(part for _, part in parents), source.source(target)]),
            span=source.span(node.start_byte, node.end_byte),
            name_span=name,
            sig=name,
            body=source.span(right.start_byte, right.end_byte),
            doc=None,
            parents=parents,
            text=source.source(node),
            body_text=source.source(right),
            sig_text=source.source(target),
        )


def _decorators(source: _Source, outer: Any) -> Iterator[str]:
    for child in outer.children:
        if child.type == "decorator":
            yield source.source(child).lstrip("@").partition("(")[0].strip()


def _docstring(body: Any) -> Any:
    first = next((child for child in body.named_children if child.type != "comment"), None)
    if first is None or first.type != "expression_statement" or not first.named_children:
        return None
    return first.named_children[0] if first.named_children[0].type in ("string", "concatenated_string") else None
