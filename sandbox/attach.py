"""The standard streams of a container as asyncio streams: taken over from the SDK's hijacked connection and
demultiplexed.

Without a terminal the engine sends frames of a kind (1 output, 2 error), three zero bytes, a length (big-endian) and
the bytes. Output goes to :attr:`Attached.reader`; of the error stream the end is kept, because it says why a server
died.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from sandbox.protocol import SandboxError

if TYPE_CHECKING:
    import docker

HEAD = 8
TAIL_CHARS = 2000


def attach(client: docker.DockerClient, container: str) -> socket.socket:
    """The raw socket of a created, not yet started container (blocking; call it in a thread)."""
    params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    wrapped: Any = client.api.attach_socket(container, params=params)
    raw = getattr(wrapped, "_sock", wrapped)
    if not isinstance(raw, socket.socket):
        raise SandboxError("The engine's connection cannot be attached to: use a local socket or plain TCP.")
    # The response object would close the socket when it is collected: a duplicate lives as long as we do.
    own = socket.socket(fileno=socket.dup(raw.fileno()))
    own.setblocking(False)
    with contextlib.suppress(OSError):
        wrapped.close()
    return own


class Attached:
    """Reader and writer of one container's streams."""

    def __init__(
        self, reader: asyncio.StreamReader, source: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self._source, self._streams = source, writer
        self._errors = b""
        self._task = asyncio.create_task(self._demultiplex())

    @classmethod
    async def open(cls, raw: socket.socket) -> Attached:
        """Take over a socket."""
        source, writer = await asyncio.open_connection(sock=raw)
        return cls(asyncio.StreamReader(), source, writer)

    async def lead_through(self, raw: socket.socket) -> None:
        """Speak over another socket from now on; errors are still heard here."""
        raw.setblocking(False)
        self.reader, self.writer = await asyncio.open_connection(sock=raw)

    @property
    def errors(self) -> str:
        """The end of what the container wrote to its error stream."""
        return self._errors.decode(errors="replace").strip()

    async def ended(self, patience_s: float) -> None:
        """Return when the engine has closed the container's streams, or when patience is over."""
        await asyncio.wait((self._task,), timeout=patience_s)

    async def close(self) -> None:
        """Give the connection back. Idempotent."""
        self._task.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            self.writer.close()
            self._streams.close()
            await self._task

    async def _demultiplex(self) -> None:
        output = self.reader
        try:
            while True:
                head = await self._source.readexactly(HEAD)
                data = await self._source.readexactly(int.from_bytes(head[4:], "big"))
                if head[0] == 2:
                    self._errors = (self._errors + data)[-TAIL_CHARS:]
                else:
                    output.feed_data(data)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            output.feed_eof()
