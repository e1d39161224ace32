"""The daemon: a warm server per (workspace, server, configuration) behind a Unix socket (standard library only in the
client's half).

One JSON line in, one bundle line out. Identical questions in flight share one answer; answers are remembered until a
file of the workspace changes. Invariants: the socket's folder is 0700 and the socket 0600; nothing that mutates is
ever answered from memory; a daemon that nobody asks for an hour ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsp.canonical import digest
from lsp.errors import Code, LanserError
from lsp.servers import load

IDLE_S = 3600.0
START_S = 60.0
LINE_LIMIT = 256 * 1024 * 1024
NAME = 24
"""Letters of a socket's name."""
LONGEST = 107
"""Bytes that the path of a Unix socket may have on Linux."""


def folder() -> Path:
    """Where sockets lie: a private folder of this user, below ``XDG_RUNTIME_DIR`` unless that is too long for one."""
    short = f"/tmp/lanser-{os.getuid()}"
    base = os.environ.get("XDG_RUNTIME_DIR") or short
    if len(os.fsencode(f"{base}/lanser/")) + NAME + len(".sock") > LONGEST:
        base = f"{short}/{digest(base)[7:19]}"
    place = Path(base) / "lanser"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = place.stat()
    except OSError as error:
        message = f"no folder for the daemon's socket, {place}: {error.strerror}; set XDG_RUNTIME_DIR to one of yours"
        raise LanserError(Code.FS_PERMISSIONS, message) from error
    if info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise LanserError(Code.FS_PERMISSIONS, f"{place} is not private to this user; remove it or set XDG_RUNTIME_DIR")
    return place


def socket_path(workspace: str, server: str, timeout: float) -> Path:
    """The socket of one daemon."""
    server = os.path.realpath(server) if server.endswith(".toml") else server
    name = digest({"workspace": os.path.realpath(workspace), "server": server, "timeout": timeout})[7 : 7 + NAME]
    return folder() / f"{name}.sock"


def ask(path: Path, message: Mapping[str, Any], timeout: float) -> dict[str, Any] | None:
    """The daemon's answer; ``None`` when none is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        try:
            link.connect(str(path))
        except OSError:
            return None
        try:
            link.sendall(json.dumps(message).encode() + b"\n")
            with link.makefile("rb") as file:
                line = file.readline()
        except TimeoutError:
            raise LanserError(Code.LS_TIMEOUT, f"the daemon did not answer within {timeout:g} s") from None
        except ConnectionError:
            # It went away between accepting and answering: as good as not there.
            return None
    return json.loads(line) if line else None


def listens(path: Path) -> bool:
    """Whether somebody accepts connections on ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(path))
        except OSError:
            return False
    return True


def start(workspace: str, server: str, timeout: float) -> dict[str, Any]:
    """Start a daemon unless one answers; its status. ``LS_TIMEOUT`` when it does not come up."""
    load(server)
    path = socket_path(workspace, server, timeout)
    status = ask(path, {"cmd": "status"}, START_S)
    if status is not None:
        return status
    command = [sys.executable, "-m", "lsp.daemon", os.path.realpath(workspace), server, str(timeout), str(path)]
    null = subprocess.DEVNULL
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=said, start_new_session=True)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
            status = ask(path, {"cmd": "status"}, START_S)
            if status is not None:
                return status
        if process.poll() is None:
            raise LanserError(Code.LS_TIMEOUT, f"the daemon did not come up within {START_S:g} s")
        said.seek(0)
        reason = said.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
    # Of two that were started at once, the one that came second ends; the other one answers.
    status = ask(path, {"cmd": "status"}, START_S)
    if status is None:
        raise LanserError(Code.LS_CRASH, f"the daemon ended at once: {reason[0]}")
    return status


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

    async def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One question: ``cmd`` and ``args``."""
        self._used = time.monotonic()
        match message.get("cmd"):
            case "status":
                return self._status()
            case "stop":
                self._stop.set()
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
    await Daemon(session, Path(path)).serve()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
    except (LanserError, OSError) as error:
        sys.exit(f"{error}")
