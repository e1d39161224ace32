"""How a daemon is found, asked and started: one JSON line in, one bundle line out (standard library only).

What every command through the daemon pays for: invariant, nothing is imported here that asking does not need (neither
asyncio nor a server's profile).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsp.canonical import digest
from lsp.errors import Code, LanserError

START_S = 60.0
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
    import subprocess
    import tempfile

    from lsp.servers import load

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
