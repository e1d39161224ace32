"""What must be equal for a used sandbox to pass for a new one, and how it is made so. Standard library only: this runs
inside, in the tool server, which no command can reach.

A state is everything that outlives a command: what is mounted, every entry of every writable mount, the processes,
System V objects, and what a process of the same user may set on the tool server itself (its limits, priority and CPUs).
It is taken in a new container before its first task; a wiped one that differs in anything is not used again.
"""

# Plain system calls: this runs inside.
# ruff: noqa: PTH208, PTH101, PTH106, PTH108, PTH112, PTH118, PTH123

from __future__ import annotations

import contextlib
import os
import resource
import stat
from typing import Any

from sandbox import processes

PSEUDO = frozenset({"proc", "sysfs", "devpts", "cgroup", "cgroup2", "securityfs"})
"""File systems of the kernel's, without content that a command could leave."""
SYSV = ("msg", "sem", "shm")

State = dict[str, Any]


def state() -> State:
    """The state of this sandbox, comparable by ``==``."""
    mounts = _mounts()
    return {
        "mounts": [(point, kind, options) for point, kind, options in mounts],
        "files": {point: _entries(point) for point in writable(mounts)},
        "processes": sorted(pid for pid, process in processes.table().items() if process.state != "Z"),
        "sysv": {name: _lines(f"/proc/sysvipc/{name}") for name in SYSV},
        "limits": [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if "RLIMIT_" in name],
        **_threads(),
    }


def _threads() -> State:
    """What another process of this user may set on any thread of this one, each value once."""
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    return {
        "priority": sorted({os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}),
        "scheduler": sorted({os.sched_getscheduler(thread) for thread in threads}),
        "cpus": sorted({tuple(sorted(os.sched_getaffinity(thread))) for thread in threads}),
    }


def differences(before: State, after: State) -> list[str]:
    """What changed, by name; empty for equal states."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def writable(mounts: list[tuple[str, str, str]]) -> list[str]:
    """Mount points that this user can write in."""
    return [
        point for point, kind, _ in mounts if kind not in PSEUDO and os.path.isdir(point) and os.access(point, os.W_OK)
    ]


def wipe() -> None:
    """Kill what commands left, and empty every writable mount; each keeps its own mode, as far as it can be set."""
    processes.kill_foreign()
    for point in writable(_mounts()):
        _empty(point)


def _mounts() -> list[tuple[str, str, str]]:
    """Mount point, kind and options of every mount."""
    found: list[tuple[str, str, str]] = []
    for line in _lines("/proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].encode().decode("unicode_escape")
        found.append((point, rest.split(" ")[0], fields.split(" ")[5]))
    return sorted(found)


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


def _entries(root: str) -> list[tuple[str, str]]:
    """The mount's own mode, owner and attributes, and the name and mode of everything in it."""
    found = [("", _look(root))]
    for folder, folders, files in os.walk(root):
        if folder != root and os.path.ismount(folder):
            folders.clear()
            continue
        found += [(path, _look(path)) for name in (*folders, *files) if (path := os.path.join(folder, name))]
    return sorted(found)


def _look(path: str) -> str:
    info = os.lstat(path)
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listxattr(path, follow_symlinks=False)
    return f"{stat.filemode(info.st_mode)} {info.st_uid}:{info.st_gid} {info.st_rdev} {sorted(names)}"


def _empty(folder: str) -> None:
    """Remove everything below ``folder``; a locked folder is unlocked first."""
    with contextlib.suppress(OSError):
        os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | 0o700)
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if not os.path.ismount(entry.path):
                _empty(entry.path)
            with contextlib.suppress(OSError):
                os.rmdir(entry.path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
