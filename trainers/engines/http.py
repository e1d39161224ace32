"""JSON over HTTP/1.1 with a time-out on every call, and nothing besides: one connection a request.

An engine behind a socket can be slow, dead, or answer with something else; each leaves as one sentence that names the
server, the call and the way out. A call that is cancelled closes its connection, so the server stops generating for it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from agent.policy import PolicyError

LIMIT = 2**26
"""Largest body that is read, in bytes."""
_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError)
"""What a connection that breaks, and an answer that is no HTTP, raise."""


class ServerError(PolicyError):
    """A server that did not answer as it should. ``status`` is its HTTP status, 0 when there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """Calls one server. Usable from any event loop; it keeps no connection."""

    url: str
    """``http://host:port``; what the paths of calls are appended to."""
    timeout_s: float
    """Seconds for a call that names no limit of its own, from connecting to the last byte."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = "vLLM server"
    """What messages call it."""

    def reach(self, limit_s: float = 10.0) -> None:
        """See that somebody listens there, before work is begun that needs it. Raises :class:`ServerError`."""
        url = urlsplit(self.url)
        try:
            socket.create_connection((url.hostname or "", _port(url)), limit_s).close()
        except OSError as error:
            where = f"the {self.name} at {self.url}"
            raise ServerError(f"{where} cannot be reached ({_reason(error)}); is it running?") from error

    async def get(self, path: str, timeout_s: float | None = None) -> Any:
        """The JSON of an answer (``None`` for an empty one). Raises :class:`ServerError`."""
        return await self.call("GET", path, None, timeout_s)

    async def post(self, path: str, body: object = None, timeout_s: float | None = None) -> Any:
        """The JSON of an answer to a JSON body. Raises :class:`ServerError`."""
        return await self.call("POST", path, body, timeout_s)

    async def call(self, verb: str, path: str, body: object, timeout_s: float | None, plain: bool = False) -> Any:
        """One request and its answer; with ``plain`` the answer is a sentence rather than JSON."""
        limit = timeout_s or self.timeout_s
        where = f"the {self.name} at {self.url}"
        try:
            async with asyncio.timeout(limit):
                status, raw = await _exchange(urlsplit(self.url + path), verb, body, self.headers)
        except TimeoutError:
            raise ServerError(
                f"{where} did not answer {verb} {path} within {limit:g} s; see its log, or allow more time"
            ) from None
        except _BROKEN as error:
            raise ServerError(f"{where} cannot be reached ({_reason(error)}); is it running?") from error
        if not 200 <= status < 300:
            raise ServerError(f"{where} answered {verb} {path} with status {status}: {_excerpt(raw)}", status)
        return raw.decode("utf-8", "replace") if plain else _parsed(raw, f"{where} answered {verb} {path}")


async def _exchange(url: SplitResult, verb: str, body: object, headers: Mapping[str, str]) -> tuple[int, bytes]:
    context = ssl.create_default_context() if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.hostname, _port(url), ssl=context, limit=2**20)
    try:
        writer.write(_request(url, verb, body, headers))
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.close()


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _request(url: SplitResult, verb: str, body: object, headers: Mapping[str, str]) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = {
        "Host": url.netloc,
        "Connection": "close",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{verb} {target} HTTP/1.1\r\n{head}\r\n".encode() + payload


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    fields: dict[str, str] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return status, await _chunks(reader)
    if (length := fields.get("content-length")) is not None:
        return status, await reader.readexactly(_bounded(int(length)))
    return status, await reader.read(LIMIT)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _bounded(len(found) + size)
        found += await reader.readexactly(size)
        await reader.readexactly(2)
    return found


def _bounded(size: int) -> int:
    if size > LIMIT:
        raise ValueError(f"an answer of {size} bytes")
    return size


def _parsed(raw: bytes, what: str) -> Any:
    if not raw.strip():
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ServerError(f"{what} with something that is not JSON: {_excerpt(raw)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _excerpt(raw: bytes) -> str:
    return " ".join(raw[:600].decode("utf-8", "replace").split())[:300]
