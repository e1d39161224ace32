"""A way into a container that does not lead through the engine: a Unix socket in a folder that is mounted read-only.

The engine carries standard streams through its own process and a shim's pipes, which is most of what a short action
costs. Through a door the host speaks to the tool server itself. Only one visitor is let in, and that one is the
container's first process, before it knows of any command: then the socket is closed and unlinked, so that nothing that
runs later finds anything to speak to or to pass itself off as, and the server's end is out of reach like its streams
were (:func:`sandbox.server.harden`). Where the engine mounts another machine's folders nobody comes; standard streams
stay then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path

from sandbox.boot import DOOR

ENTER_S = 30.0
"""Patience with a container that is being started, in seconds."""


class Door:
    """One socket in a folder of its own below ``home``, which nobody else on this machine can look into."""

    def __init__(self, home: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=home))
        self.folder.chmod(0o755)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(self.folder, os.O_PATH)
        try:
            # The path of a socket is short by definition, that of a cache folder is not.
            self._socket.bind(f"/proc/self/fd/{place}/{DOOR}")
        finally:
            os.close(place)
        (self.folder / DOOR).chmod(0o666)
        self._socket.listen(1)
        self._socket.setblocking(False)

    async def enter(self, refusal: asyncio.StreamReader) -> socket.socket | None:
        """The connection of the one who comes, once; ``None`` where ``refusal`` says that nobody can."""
        loop = asyncio.get_running_loop()
        coming = asyncio.ensure_future(loop.sock_accept(self._socket))
        staying = asyncio.ensure_future(refusal.read(1))
        try:
            await asyncio.wait((coming, staying), timeout=ENTER_S, return_when=asyncio.FIRST_COMPLETED)
            return coming.result()[0] if coming.done() else None
        finally:
            for waiting in (coming, staying):
                waiting.cancel()
            await asyncio.gather(coming, staying, return_exceptions=True)
            self.shut()

    def shut(self) -> None:
        """Let nobody in any more. Idempotent; the folder stays for as long as it is mounted."""
        self._socket.close()
        with contextlib.suppress(OSError):
            (self.folder / DOOR).unlink()

    def remove(self) -> None:
        """Leave nothing. Idempotent."""
        self.shut()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
