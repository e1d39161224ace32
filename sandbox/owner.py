"""Who started a sandbox, told from everybody else on this machine and on every other one that shares an engine.

A process is named by its number, its start time, the boot and the process namespace: a recycled number is another name.
What a dead owner left behind is ours to remove; what cannot be judged from here (another namespace, another machine) is
left unless it has stopped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple


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
    """A new folder below ``above`` that carries our name, and that nobody else can look into; those of dead owners are
    removed."""
    from sandbox import tree

    above.mkdir(parents=True, exist_ok=True)
    for old in above.iterdir():
        with contextlib.suppress(OSError):
            whose = parse((old / "owner").read_text())
            if whose and abandoned(whose, running=False):
                tree.remove(str(old))
    made = Path(tempfile.mkdtemp(dir=above))
    (made / "owner").write_text(str(me()))
    return made


def _started(pid: int) -> str:
    """Start time in clock ticks since boot; empty for no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat[stat.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]
