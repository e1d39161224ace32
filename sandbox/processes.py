"""The processes below the tool server: found, killed, reaped.

The server is PID 1 of its namespace or a child subreaper, so that whatever a command leaves behind becomes its child
and can be found however often it forked. Its own helpers (language servers) stay in the server's session, which no
other process can join; every shell starts a session of its own. So *foreign* means: a descendant in another session.
"""

# Plain system calls: this runs inside, once per file and per command.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

ROUNDS = 200
"""Passes over the process table before a kill gives up on catching every fork."""
HELPERS: set[int] = set()
"""Sessions of our own helpers, by the process that leads each."""


class Process(NamedTuple):
    pid: int
    parent: int
    session: int
    state: str


def table() -> dict[int, Process]:
    """Every process that ``/proc`` shows."""
    found: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _read(int(name))):
            found[process.pid] = process
    return found


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The command's name stands in brackets and may hold anything: the fields begin after the last bracket.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[3]), fields[0].decode())


def foreign() -> list[Process]:
    """Descendants of this process in other sessions, parents first."""
    processes = table()
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    own = {os.getsid(0), *HELPERS}
    found, queue = list[Process](), list(children.get(os.getpid(), ()))
    while queue:
        process = processes[queue.pop()]
        queue.extend(children.get(process.pid, ()))
        if process.session not in own:
            found.append(process)
    return found


def kill_foreign() -> bool:
    """Kill every foreign process, forks in flight included, and reap them. Whether none is left."""
    for round_ in range(ROUNDS):
        alive = [process.pid for process in foreign() if process.state not in "ZX"]
        if not alive:
            reap()
            return True
        # Stopping all before killing any gives a fork bomb nobody to replace the fallen.
        for signal_ in (signal.SIGSTOP, signal.SIGKILL):
            for pid in alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal_)
        reap()
        time.sleep(0.001 * min(round_, 10))
    return False


def reap() -> None:
    """Collect dead foreign children; the server's own helpers are left to whoever started them."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
    except ChildProcessError:
        return
    own = {os.getsid(0), *HELPERS}
    for pid in _children():
        process = _read(pid)
        if process and process.state == "Z" and process.session not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    """Direct children: from the kernel's own list where it keeps one (a scan of a large table takes milliseconds)."""
    try:
        found: list[int] = []
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
        return found
    except OSError:
        return [process.pid for process in table().values() if process.parent == os.getpid()]
