"""The main process of a container before it is the tool server: it waits for its task, fills the workspace, then
serves.

Standard library only: this runs inside. What costs time is imported before the wait, so that a container made ahead of
its use answers at once. The task comes as one length-prefixed value on standard input, or through the door
(:mod:`sandbox.door`) that then stands for standard input and output: the workspace is a size-limited
tmpfs that nothing outside can fill, no file of it needs to be readable to the sandbox's user on the host, and nothing
of it is left on the host when it ends.
"""

from __future__ import annotations

import marshal
import os
import socket

from sandbox import reset, server

DOOR = "door"
"""Name of the host's socket, below :data:`PORCH`."""
PORCH = "/run/repodojo"
"""Where the folder of the host's socket is mounted."""
NO_DOOR = b"-"
"""What is said on standard output where the host offered a door and none can be entered."""


def enter() -> None:
    """Take the host's own socket for standard input and output; it lets one visitor in."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.connect(f"{PORCH}/{DOOR}")
            os.dup2(door.fileno(), 0)
            os.dup2(door.fileno(), 1)
    except OSError:
        os.write(1, NO_DOOR)


def exactly(count: int) -> bytes:
    """``count`` bytes of standard input, and not one more: what follows belongs to the tool server."""
    parts: list[bytes] = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def fill(root: str, entries: list[tuple[str, str, int, int, bytes]]) -> None:
    """Create (path, kind, mode, time in ns, bytes) below ``root``; folders come before what they hold."""
    for path, kind, mode, when, data in entries:
        target = f"{root}/{path}"
        if kind == "d":
            os.mkdir(target, mode | 0o700)  # noqa: PTH102 - no pathlib: it would cost more than it is worth here
        elif kind == "l":
            os.symlink(data, os.fsencode(target))  # noqa: PTH211
        else:
            out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode | 0o600)
            while data:
                data = data[os.write(out, data) :]
            os.fchmod(out, mode | 0o600)
            os.utime(out, ns=(when, when))
            os.close(out)


def take(task: bytes) -> str:
    """Fill the workspace of a task, and answer the settings of its tool server, as JSON."""
    settings, home, root, entries = marshal.loads(task)
    os.makedirs(home, exist_ok=True)  # noqa: PTH103
    fill(root, entries)
    return settings


def main(*, door: bool = False) -> None:
    """Wait, fill, serve. What a later use must find again is noted before anything is filled."""
    if door:
        enter()
    fresh = reset.state()
    server.main([take(exactly(int.from_bytes(exactly(8), "big")))], fresh)
