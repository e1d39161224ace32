"""Three encodings of git's extended diff format: quoted names, binary literals, blob ids.

Sources: the "Generating patch text" section of git's documentation, and ``base85.c`` of git for the literals (the
alphabet is the one of :func:`base64.b85encode`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib

_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_BACK = {letter: code for code, letter in _ESCAPES.items()}
_LINE = 52
"""Bytes per line of a binary literal."""
MODES = {"f": "100644", "x": "100755", "l": "120000"}


def quote(name: str) -> str:
    """A name as a diff writes it: as it is, or C-quoted where it holds a control character, a quote or bytes that are
    no UTF-8.
    """
    raw = os.fsencode(name)
    if all(byte >= 32 and byte not in (34, 92, 127) for byte in raw) and _is_text(raw):
        return name
    return '"' + "".join(_quoted(byte) for byte in raw) + '"'


def _quoted(byte: int) -> str:
    if byte in _ESCAPES:
        return "\\" + _ESCAPES[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def unquote(text: str) -> tuple[str, str]:
    """The name that a C-quoted ``text`` begins with, and what follows it. Raises ``ValueError``."""
    raw = bytearray()
    at = 1
    while at < len(text) and text[at] != '"':
        if text[at] != "\\":
            raw += text[at].encode()
            at += 1
        elif text[at + 1 : at + 2].isdigit():
            raw.append(int(text[at + 1 : at + 4], 8))
            at += 4
        else:
            raw.append(_BACK[text[at + 1]] if text[at + 1 : at + 2] in _BACK else _refuse(text))
            at += 2
    if at >= len(text):
        _refuse(text)
    return os.fsdecode(bytes(raw)), text[at + 1 :]


def _refuse(text: str) -> int:
    raise ValueError(f"broken quoting in {text[:80]}")


def blob_id(data: bytes) -> str:
    """git's name of the bytes, 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def encode_literal(data: bytes) -> list[str]:
    """The lines of a binary literal of ``data``."""
    packed = zlib.compress(data)
    chunks = (packed[at : at + _LINE] for at in range(0, len(packed), _LINE))
    return [
        f"literal {len(data)}",
        *(_length(len(chunk)) + base64.b85encode(chunk, pad=True).decode() for chunk in chunks),
        "",
    ]


def decode_literal(size: int, lines: list[str]) -> bytes:
    """The bytes of a literal of ``size``. Raises ``ValueError``."""
    packed = b"".join(base64.b85decode(line[1:])[: _count(line[0])] for line in lines)
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError("a binary literal cannot be unpacked") from error
    if len(data) != size:
        raise ValueError("a binary literal has another length than it says")
    return data


def _length(count: int) -> str:
    return chr(ord("A") + count - 1) if count <= 26 else chr(ord("a") + count - 27)


def _count(letter: str) -> int:
    return ord(letter) - ord("A") + 1 if letter.isupper() else ord(letter) - ord("a") + 27
