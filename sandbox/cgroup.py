"""Control groups of local sandboxes, where this machine lets us make any: memory, processes and CPU of a whole sandbox.

Both versions of the kernel's interface: one folder below our own group in each hierarchy (version 1), or one folder
with all three controllers (version 2). A group is made on the host and joined by the sandbox's first process, through
descriptors that were opened here, before it gives up its rights. Its name carries its owner; those of dead owners are
removed. Where no group can be made there is none, and the notice of the backend says so.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from pathlib import Path

from sandbox import owner
from sandbox.protocol import Limits

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "pids", "cpu")
PERIOD_US = 100_000
PREFIX = "repodojo "
GONE_S = 2.0
"""Patience with the last processes of a group, in seconds."""

_numbers = itertools.count(1)


class Group:
    """One sandbox's groups."""

    def __init__(self, limits: Limits) -> None:
        """Raises ``OSError`` where it cannot be made."""
        name = f"{PREFIX}{owner.me()} {next(_numbers)}"
        self.folders: list[Path] = []
        try:
            for parent in dict.fromkeys(_parents().values()):
                (parent / name).mkdir()
                self.folders.append(parent / name)
            for file, value in _values(limits).items():
                _write(self.folders, file, value)
        except BaseException:
            self.remove()
            raise

    def entrances(self) -> list[int]:
        """Descriptors through which a process joins by writing ``0``; the caller closes them."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    def remove(self) -> None:
        """Take the groups away once their processes are gone. Idempotent; blocks for a moment at most."""
        end = time.monotonic() + GONE_S
        for folder in self.folders:
            while folder.exists() and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.01)


@functools.cache
def missing() -> str:
    """Why no group can be made here; empty when one can. Found by trying, once; removes what dead owners left."""
    try:
        for parent in set(_parents().values()):
            _reap(parent)
        Group(Limits()).remove()
    except OSError as error:
        return f"no control group can be made here ({error.strerror or error})"
    return ""


def _parents() -> dict[str, Path]:
    """Our own group in the hierarchy of each controller. Raises ``OSError`` where one is absent."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = {name: path for _, names, path in lines for name in names.split(",")}
    if (ROOT / "cgroup.controllers").exists():
        parent = ROOT / own.get("", "/").lstrip("/")
        # Refused where our own group holds processes, as it mostly does but at the root or with a delegated one.
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))
        return dict.fromkeys(CONTROLLERS, parent)
    found = {name: ROOT / name / own[name].lstrip("/") for name in CONTROLLERS if name in own}
    if len(found) < len(CONTROLLERS):
        raise OSError(0, "memory, pids and cpu are not all under control")
    return found


def _values(limits: Limits) -> dict[str, str]:
    """Files of either version and what they are set to."""
    memory, quota = str(limits.memory_mb << 20), str(int(limits.cpus * PERIOD_US))
    if (ROOT / "cgroup.controllers").exists():
        both = {"memory.max": memory, "memory.swap.max": "0", "cpu.max": f"{quota} {PERIOD_US}"}
    else:
        both = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory, "cpu.cfs_quota_us": quota}
    return {**both, "pids.max": str(limits.pids)}


def _write(folders: list[Path], name: str, value: str) -> None:
    places = [folder / name for folder in folders if (folder / name).exists()]
    # Swap is under control only where the kernel counts it.
    if not places and "sw" not in name:
        raise OSError(0, f"{name} is not there")
    for place in places:
        place.write_text(value)


def _reap(parent: Path) -> None:
    for old in parent.glob(f"{PREFIX}*"):
        whose = owner.parse(old.name.removeprefix(PREFIX).rsplit(" ", 1)[0])
        if whose and owner.abandoned(whose, running=False):
            with contextlib.suppress(OSError):
                old.rmdir()
