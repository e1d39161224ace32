"""A text file as bytes, and back: encoding, line ends, byte order mark, mode and the file's other content survive an
edit.

Reading gives text with ``\\n`` line ends; writing puts the file's own line ends and encoding back. The encoding is
found by what can be proved: a byte order mark, else valid UTF-8, else Latin-1, in which every byte is a character and
nothing is lost. A write is refused before the file is touched when the text cannot be encoded, and replaces the file in
one step. Standard library only.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH105, PTH108, PTH116, PTH120

from __future__ import annotations

import codecs
import os
import stat
import tempfile
from typing import NamedTuple

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, the longer ones first where one begins another."""
SAMPLE = 1 << 13
"""Bytes looked at to tell a binary file."""


class Style(NamedTuple):
    """How a file writes its text."""

    encoding: str = "utf-8"
    mark: bytes = b""
    newline: str = "\n"
    """The line end of most lines. Lines that differ are kept by :func:`restore`."""


def is_binary(data: bytes) -> bool:
    """Whether ``data`` is no text: it holds a null byte and no byte order mark."""
    return b"\0" in data[:SAMPLE] and not any(data.startswith(mark) for mark, _ in MARKS)


def decode(data: bytes) -> tuple[str, Style]:
    """Text with the file's own line ends, and the file's style."""
    mark, encoding = next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", ""))
    body = data[len(mark) :]
    for candidate in (encoding,) if encoding else ("utf-8", "latin-1"):
        try:
            text = body.decode(candidate)
        except UnicodeDecodeError:
            continue
        return text, Style(candidate, mark, _newline(text))
    text = data.decode("latin-1")
    return text, Style("latin-1", b"", _newline(text))


def _newline(text: str) -> str:
    crlf = text.count("\r\n")
    return "\r\n" if crlf * 2 > text.count("\n") else "\n"


def normalise(text: str) -> str:
    """Text with ``\\n`` where it had ``\\r\\n``. A carriage return alone is content and stays."""
    return text.replace("\r\n", "\n")


def restore(new: str, old: str, style: Style) -> str:
    """``new`` (with ``\\n``) with the line ends of ``old``: unchanged lines at either end keep theirs, the rest get
    the file's."""
    if "\r\n" not in old:
        return new
    before, lines = _lines(old), _lines(new)
    kept = [line.replace("\r\n", "\n") for line in before]
    head = _common(kept, lines)
    tail = min(_common(kept[::-1], lines[::-1]), len(lines) - head, len(kept) - head)
    middle = "".join(lines[head : len(lines) - tail]).replace("\n", style.newline)
    return "".join(before[:head]) + middle + "".join(before[len(before) - tail :])


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a line feed ends a line."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _common(one: list[str], other: list[str]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def encode(text: str, style: Style) -> bytes:
    """Bytes of ``text`` in the file's style; a Latin-1 file that gets other characters becomes UTF-8 with them.

    Raises ``UnicodeEncodeError`` for text that no encoding writes (a lone surrogate).
    """
    try:
        return style.mark + text.encode(style.encoding)
    except UnicodeEncodeError:
        if style.encoding != "latin-1":
            raise
        return text.encode("utf-8")


def replace(path: str, data: bytes) -> None:
    """Write ``path`` in one step. An existing file keeps its mode and owner; a new one gets 0644."""
    folder = os.path.dirname(path)
    try:
        info = os.stat(path)
    except FileNotFoundError:
        info = None
    fd, draft = tempfile.mkstemp(prefix=".edit-", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, stat.S_IMODE(info.st_mode) if info else 0o644)
            if info and (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, info.st_uid, info.st_gid)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
