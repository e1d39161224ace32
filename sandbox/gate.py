"""The proxy that a sandbox with an allow-list speaks to: on the host, on a Unix socket in a folder that is mounted
read-only.

``CONNECT`` opens a tunnel to a listed host and port; a request with an absolute ``http://`` address is passed on, one a
connection. Whatever else is asked is refused with a status and one line, and nothing is looked up for it. Who speaks to
the socket directly instead of through the forwarder inside meets the same rules: they hold here, where no command runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sandbox.forward import GATE
from sandbox.network import Allow, Network

HEAD = 16 << 10
"""Largest head of a request, in bytes."""
PATIENCE_S = 30.0
"""For a request's head, and for a connection to a listed host."""
CHUNK = 1 << 16
MOST = 256
"""Connections at a time; more are refused."""
GONE = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive", "host"})
"""Fields of a request that are ours to say."""


class _Refused(Exception):
    """A request that is answered here, with its status line's code."""

    def __init__(self, status: str, line: str) -> None:
        super().__init__(line)
        self.status = status


class _Asked(NamedTuple):
    host: str
    port: int
    first: bytes
    """What the host is sent before anything else comes from the sandbox; empty: a tunnel."""


class Gate:
    """One allow-list's proxy, for any number of sandboxes."""

    def __init__(self, rules: Allow, folder: Path) -> None:
        self.rules, self.folder = rules, folder
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, rules: Allow, home: Path) -> Gate:
        """Listen in a new folder below ``home``."""
        gate = cls(rules, Path(tempfile.mkdtemp(dir=home)))
        gate.folder.chmod(0o755)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(gate.folder, os.O_PATH)
        try:
            listener.bind(f"/proc/self/fd/{place}/{GATE}")
        finally:
            os.close(place)
        (gate.folder / GATE).chmod(0o666)
        gate._server = await asyncio.start_unix_server(gate._serve, sock=listener, limit=HEAD)
        return gate

    async def close(self) -> None:
        """Cut every connection, and leave nothing. Idempotent."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        with contextlib.suppress(OSError):
            (self.folder / GATE).unlink()
            self.folder.rmdir()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        except _Refused as refused:
            body = f"{refused}\n".encode(errors="replace")
            head = f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            with contextlib.suppress(OSError):
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            # Only closing the gate cancels: the connection's end is all that anybody waits for.
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) > MOST:
            raise _Refused("503 Service Unavailable", f"more than {MOST} connections are open")
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        except (asyncio.LimitOverrunError, TimeoutError):
            raise _Refused("400 Bad Request", "this is no HTTP request") from None
        asked = understand(head)
        if not self.rules.permits(asked.host, asked.port):
            raise _Refused("403 Forbidden", f"the sandbox's network policy does not list {asked.host}:{asked.port}")
        try:
            far_reader, far_writer = await asyncio.wait_for(asyncio.open_connection(asked.host, asked.port), PATIENCE_S)
        except (OSError, TimeoutError) as error:
            raise _Refused("502 Bad Gateway", f"{asked.host}:{asked.port} does not answer: {error}") from error
        try:
            if asked.first:
                far_writer.write(asked.first)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, far_writer))
                both.create_task(_pass_on(far_reader, writer))
        except* OSError:
            pass
        finally:
            far_writer.close()


def understand(head: bytes) -> _Asked:
    """What a request asks for (pure). Raises what is answered to one that cannot be granted."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused("400 Bad Request", "this is no HTTP request")
    method, target, version = words
    try:
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = url.hostname or "", url.port or (443 if method == "CONNECT" else 80)
    except ValueError:
        raise _Refused("400 Bad Request", "the request's address cannot be read") from None
    if not host or (method != "CONNECT" and url.scheme != "http"):
        raise _Refused("400 Bad Request", "this is a proxy: ask it for http:// addresses, or to CONNECT")
    if method == "CONNECT":
        return _Asked(host, port, b"")
    path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
    kept = [line for line in lines[1:] if line and line.partition(":")[0].strip().lower() not in GONE]
    where = f"[{host}]" if ":" in host else host
    own = [f"{method} {path} {version}", f"Host: {where}:{port}" if port != 80 else f"Host: {where}"]
    return _Asked(host, port, "\r\n".join([*own, *kept, "Connection: close", "", ""]).encode("latin-1"))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything that comes, then the end."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class Gates:
    """The gates of one backend, one for each allow-list, made when first asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[Allow, asyncio.Task[Gate]] = {}

    async def folder(self, network: Network) -> Path | None:
        """What a sandbox of this policy mounts; ``None``: nothing."""
        if network == "none":
            return None
        if network not in self._known:
            self._known[network] = asyncio.create_task(Gate.open(network, self._home))
        return (await asyncio.shield(self._known[network])).folder

    async def close(self) -> None:
        known, self._known = self._known, {}
        for gate in await asyncio.gather(*known.values(), return_exceptions=True):
            if isinstance(gate, Gate):
                await gate.close()
