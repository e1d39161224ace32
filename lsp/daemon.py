"""The daemon: a warm server per (workspace, server, configuration) behind a Unix socket (:mod:`lsp.ask` is the side of
those who ask).

One JSON line in, one bundle line out. Identical questions in flight share one answer; answers are remembered until a
file of the workspace changes. Invariants: the socket's folder is 0700 and the socket 0600; nothing that mutates is
ever answered from memory; a daemon that nobody asks for an hour ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsp.ask import listens
from lsp.canonical import digest
from lsp.errors import Code, LanserError

IDLE_S = 3600.0
LINE_LIMIT = 256 * 1024 * 1024


class Daemon:
    """Answers questions about one workspace."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session = session
        self._path = path
        self._memo: dict[str, dict[str, Any]] = {}
        self._flying: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._content = ""
        self._used = time.monotonic()
        self._stop = asyncio.Event()
        self.answered = 0
        self.remembered = 0

    async def serve(self) -> None:
        """Until stopped or idle. ``BAD_INPUT`` when another one listens there."""
        if listens(self._path):
            raise LanserError(Code.BAD_INPUT, f"a daemon listens on {self._path} already")
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._client, str(self._path), limit=LINE_LIMIT)
        finally:
            os.umask(old)
        async with server:
            while not self._stop.is_set() and time.monotonic() - self._used < IDLE_S:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 5.0)
        self._path.unlink(missing_ok=True)
        await self._session.close()

    def stop(self) -> None:
        """Let :meth:`serve` end."""
        self._stop.set()

    async def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One question: ``cmd`` and ``args``."""
        self._used = time.monotonic()
        match message.get("cmd"):
            case "status":
                return self._status()
            case "stop":
                self.stop()
                return self._status()
            case _:
                return await self._verb(str(message.get("cmd")), message.get("args") or {})

    async def _verb(self, cmd: str, args: Mapping[str, Any]) -> dict[str, Any]:
        from lsp.verbs import QUERIES, call

        self.answered += 1
        if cmd not in QUERIES:
            return await call(self._session, cmd, args)
        self._session.workspace.scan()
        content = self._session.workspace.digest()
        if content != self._content:
            self._memo.clear()
            self._content = content
        # A question in flight may be shared only by those that saw the same content.
        key = digest({"cmd": cmd, "args": dict(args), "content": content})
        if key in self._memo:
            self.remembered += 1
            return self._memo[key]
        if key not in self._flying:
            task = asyncio.ensure_future(call(self._session, cmd, args))
            self._flying[key] = task
            task.add_done_callback(lambda _: self._flying.pop(key, None))
        bundle = await asyncio.shield(self._flying[key])
        if bundle["status"] == "ok" and self._session.workspace.digest() == content == self._content:
            self._memo[key] = bundle
        return bundle

    def _status(self) -> dict[str, Any]:
        host = self._session.host
        return {
            "pid": os.getpid(),
            "workspace": str(self._session.workspace.root),
            "server": self._session.profile.name,
            "serverPid": host.client.pid if host else None,
            "answered": self.answered,
            "remembered": self.remembered,
            "socket": str(self._path),
        }

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                reply = await self.answer(json.loads(line))
                writer.write(json.dumps(reply, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def main(workspace: str, server: str, timeout: float, path: str) -> None:
    """Run one daemon in the foreground, on the pygls client."""
    from lsp.client import PyglsClient
    from lsp.host import Options
    from lsp.session import Session

    session = Session(workspace, server, Options(timeout=timeout, connect=PyglsClient.start))
    daemon = Daemon(session, Path(path))
    # Ended by a signal, it leaves no folder of its server's behind either.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.stop)
    await daemon.serve()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
    except (LanserError, OSError) as error:
        sys.exit(f"{error}")
