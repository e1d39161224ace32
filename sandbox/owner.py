"""Who started a sandbox, told from everybody else on this machine and on every other one that shares an engine.

A process is named by its number, its start time, the boot and the process namespace: a recycled number is another name.
What a dead owner left behind is ours to remove; what cannot be judged from here (another namespace, another machine) is
left unless it has stopped. Containers carry the name as a label, folders in their own name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox import tree

_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})-([0-9a-f]{8})-\w+")
"""Of a folder: process, its start, boot, namespace, and what tells folders of one process apart."""


class Owner(NamedTuple):
    """One process, once and for all."""

    pid: int
    started: str
    boot: str
    namespace: str

    def __str__(self) -> str:
        return " ".join((str(self.pid), self.started, self.boot, self.namespace))


def me() -> Owner:
    """This process."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Owner(os.getpid(), _started(os.getpid()), boot, str(Path("/proc/self/ns/pid").readlink()))


def parse(text: str) -> Owner | None:
    """The owner that a label names; ``None`` for a label that is not ours."""
    parts = text.split(" ")
    return Owner(int(parts[0]), *parts[1:]) if len(parts) == 4 and parts[0].isdigit() else None


def abandoned(owner: Owner, *, running: bool) -> bool:
    """Whether nobody will come for what ``owner`` left."""
    here = me()
    if (owner.boot, owner.namespace) != (here.boot, here.namespace):
        return not running
    return _started(owner.pid) != owner.started


def home(above: Path) -> Path:
    """A :func:`folder` below one that is made where it is missing."""
    above.mkdir(parents=True, exist_ok=True)
    return folder(above)


def folder(above: Path, prefix: str = "") -> Path:
    """A new folder that nobody else can look into; those of dead owners with that prefix are removed. Raises
    ``OSError``.

    Its name says whose it is, so that it is never nobody's, not even between two system calls.
    """
    here = me()
    for old in above.glob(f"{prefix}*"):
        name = _NAME.fullmatch(old.name.removeprefix(prefix))
        if name and _over(name.groups(), here):
            with contextlib.suppress(OSError):
                tree.remove(str(old))
    mine = f"{prefix}{here.pid}-{here.started}-{_short(here.boot)}-{_short(here.namespace)}-"
    return Path(tempfile.mkdtemp(prefix=mine, dir=above))


def _over(name: Sequence[str], here: Owner) -> bool:
    """Whether the owner is known to be dead. One of another process namespace cannot be judged from here, and a folder,
    unlike a container, does not tell whether it is in use."""
    pid, started, boot, namespace = name
    if boot != _short(here.boot):
        return True
    return namespace == _short(here.namespace) and _started(int(pid)) != started


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _started(pid: int) -> str:
    """Start time in clock ticks since boot; empty for no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat[stat.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]
