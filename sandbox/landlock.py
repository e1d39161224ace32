"""Landlock by system calls: a process gives up, for itself and all its children, every path but those it names.

The wall of last resort, where no namespaces are to be had. What it can do grows with its version: TCP from 4 on,
signals from 6 on (``landlock(7)``). Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import struct
from typing import NoReturn

from sandbox import seccomp, server
from sandbox.jail import PR_SET_NO_NEW_PRIVS, libc

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL = 1 << 14, 1 << 15
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
READ = EXECUTE | READ_FILE | READ_DIR
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""File rights that each version handles; later ones as the last."""
TCP, SCOPES = 0b11, 0b11


def version() -> int:
    """The kernel's version of Landlock; 0 where it has none."""
    try:
        return libc.syscall(CREATE, None, ctypes.c_size_t(0), 1, what="landlock")
    except OSError:
        return 0


def confine(readable: list[str], writable: list[str]) -> int:
    """Give up everything else, for good. The version that holds is returned; ``OSError`` where there is none."""
    supported = version()
    handled = RIGHTS[min(max(supported, 1), 5)]
    attributes = struct.pack("QQQ", handled, TCP if supported >= 4 else 0, SCOPES if supported >= 6 else 0)
    length = 24 if supported >= 6 else 16 if supported >= 4 else 8
    rules = libc.syscall(CREATE, attributes, ctypes.c_size_t(length), 0, what="landlock")
    for paths, rights in ((readable, READ), (writable, handled)):
        for path in paths:
            if os.path.exists(path):  # noqa: PTH110
                _allow(rules, path, rights & handled)
    libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(RESTRICT, rules, 0, what="landlock")
    os.close(rules)
    return supported


def _allow(rules: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= FILE_RIGHTS
        libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", rights, fd), 0, what=f"landlock {path}")
    finally:
        os.close(fd)


def main(argument: str) -> NoReturn:
    """Put up the walls that the argument names (none where it says so), then be the tool server."""
    arguments = json.loads(argument)
    if walls := arguments["walls"]:
        confine(walls["readable"], walls["writable"])
        # Landlock does not keep anybody from a daemon's socket that the user may speak to.
        seccomp.confine(local_sockets=False)
    server.main([json.dumps(arguments["settings"])])
