"""Frames between the tool server and its client: four bytes of length (big-endian), then one JSON-RPC 2.0 object in
ASCII.

A length in front lets either side read without scanning and without a line limit; JSON in ASCII carries any text, lone
surrogates of undecodable file names included. Bytes travel as base64. Standard library only: this runs inside
sandboxes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

HEAD = 4
"""Bytes of the length in front of each frame."""
LARGEST = 256 * 2**20
"""Largest body in bytes; a longer one means that the stream is not ours."""

PARSE_ERROR = -32700
UNKNOWN_METHOD = -32601
BAD_PARAMS = -32602
FAILED = -32000
"""The verb itself failed; ``data.kind`` names the Python exception."""
CANCELLED = -32800


class WireError(Exception):
    """The stream does not hold frames of ours."""


def pack(message: dict[str, Any]) -> bytes:
    """One frame. Raises :class:`WireError` when it is too large to send."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > LARGEST:
        raise WireError(f"a message of {len(body)} bytes is larger than {LARGEST}")
    return len(body).to_bytes(HEAD, "big") + body


def size(head: bytes | bytearray) -> int:
    """Length of the body that ``head`` announces."""
    length = int.from_bytes(head, "big")
    if length > LARGEST:
        raise WireError(f"a frame of {length} bytes was announced: something else writes to this stream")
    return length


def unpack(body: bytes | bytearray) -> dict[str, Any]:
    """The object in one frame's body."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise WireError(f"a frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("a frame is not an object")
    return message  # pyright: ignore[reportUnknownVariableType]


def to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def to_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
