"""Positions: lines and columns in UTF-8, UTF-16 and code points (standard library only).

LSP counts columns in the negotiated encoding, people in code points. Everything inside lanser is (line, code point),
0-based; conversion happens at the edge, once. Invariants: converting there and back is the identity on valid
positions; a column inside a character rounds down to its start; a column beyond the line is its end (LSP 3.17), so no
conversion ever leaves the line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Encoding = Literal["utf-8", "utf-16", "codepoint"]
LSP_NAMES: dict[str, Encoding] = {"utf-8": "utf-8", "utf-16": "utf-16", "utf-32": "codepoint"}
_EOL = re.compile(r"\r\n|\n|\r")

Position = tuple[int, int]
"""(line, column), 0-based, column in code points unless said otherwise."""
Range = tuple[int, int, int, int]
"""Flat (start line, start column, end line, end column)."""


@dataclass(frozen=True)
class Text:
    """A document and its lines. A byte order mark is not part of ``text``: servers do not count it."""

    text: str

    @cached_property
    def starts(self) -> Sequence[int]:
        """Offset of each line's first character. LSP's line ends: ``\\n``, ``\\r\\n``, ``\\r``."""
        return [0, *(match.end() for match in _EOL.finditer(self.text))]

    @property
    def lines(self) -> int:
        return len(self.starts)

    def line(self, number: int) -> str:
        """Line ``number`` without its end; empty beyond the file."""
        if not 0 <= number < self.lines:
            return ""
        end = self.starts[number + 1] if number + 1 < self.lines else len(self.text)
        return self.text[self.starts[number] : end].rstrip("\r\n")

    def holds(self, position: Position) -> bool:
        """Whether ``position`` is inside the document (the end of a line counts)."""
        line, column = position
        return 0 <= line < self.lines and 0 <= column <= len(self.line(line))

    def offset(self, position: Position) -> int:
        """Index into ``text``; positions beyond a line or the file are clamped."""
        line, column = position
        if line >= self.lines:
            return len(self.text)
        return self.starts[line] + min(column, len(self.line(line)))

    def position(self, offset: int) -> Position:
        """(line, column) of an index into ``text``."""
        from bisect import bisect_right

        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, offset - self.starts[line]

    def slice(self, span: Range) -> str:
        return self.text[self.offset(span[:2]) : self.offset(span[2:])]

    def to_encoding(self, position: Position, encoding: Encoding) -> Position:
        """From code points to ``encoding``."""
        line, column = position
        return line, units(self.line(line)[:column], encoding)

    def from_encoding(self, position: Position, encoding: Encoding) -> Position:
        """From ``encoding`` to code points."""
        line, column = position
        return line, codepoints(self.line(line), column, encoding)

    def range_from(self, span: Range, encoding: Encoding) -> Range:
        return (*self.from_encoding(span[:2], encoding), *self.from_encoding(span[2:], encoding))

    def range_to(self, span: Range, encoding: Encoding) -> Range:
        return (*self.to_encoding(span[:2], encoding), *self.to_encoding(span[2:], encoding))


def units(text: str, encoding: Encoding) -> int:
    """Length of ``text`` in units of ``encoding``."""
    if encoding == "codepoint" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) + sum(ord(char) > 0xFFFF for char in text)


def codepoints(line: str, column: int, encoding: Encoding) -> int:
    """Characters of ``line`` that lie wholly before ``column`` units."""
    if encoding == "codepoint" or line.isascii():
        return max(0, min(column, len(line)))
    used = 0
    for index, char in enumerate(line):
        used += units(char, encoding)
        if used > column:
            return index
    return len(line)
