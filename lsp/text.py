"""Bytes of a source file to text and back (standard library only).

Invariant: ``encode(decode(data).text)`` is ``data`` for every file that decodes: encoding, byte order mark and line
endings survive.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Decoded:
    """A file's text without its byte order mark, and how to write it back."""

    text: str
    encoding: str
    mark: bytes = b""

    def encode(self, text: str) -> bytes:
        """``text`` as this file would hold it. ``UnicodeEncodeError`` when its encoding cannot."""
        return self.mark + text.encode(self.encoding)


def decode(data: bytes) -> Decoded:
    """By byte order mark, then the PEP 263 cookie, then UTF-8. ``UnicodeDecodeError`` (a ``ValueError``) when none
    fits.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return Decoded(data[len(mark) :].decode(encoding), encoding, mark)
    encoding = cookie(data) or "utf-8"
    return Decoded(data.decode(encoding), encoding)


def cookie(data: bytes) -> str | None:
    """The encoding that one of the first two lines declares, when Python knows it."""
    for line in data.split(b"\n", 2)[:2]:
        match = _COOKIE.match(line)
        if match:
            try:
                return codecs.lookup(match[1].decode("ascii")).name
            except LookupError:
                return None
    return None
