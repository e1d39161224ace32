"""The main process of a container before it is the tool server: it waits for its task, fills the workspace, then
serves.

Standard library only: this runs inside. What costs time is imported before the wait, so that a container made ahead of
its use answers at once. The task comes as one length-prefixed value on standard input, or through the door
(:mod:`sandbox.door`) that then stands for standard input and output: the workspace is a size-limited
tmpfs that nothing outside can fill, no file of it needs to be readable to the sandbox's user on the host, and nothing
of it is left on the host when it ends.
"""

from __future__ import annotations

import os
import socket

from sandbox import reset, server
from sandbox.filling import take

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


def main(*, door: bool = False) -> None:
    """Wait, fill, serve. What a later use must find again is noted before anything is filled."""
    if door:
        enter()
    fresh = reset.state()
    server.main([take(exactly(int.from_bytes(exactly(8), "big")))], fresh)
