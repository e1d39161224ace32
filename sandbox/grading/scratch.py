"""The folder of one grading on this machine: it goes with the grading, or, where the process was killed meanwhile, when
the next process grades its first patch.

Its name says whose it is (:mod:`sandbox.owner`), so that it is never nobody's, not even between two system calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path

from sandbox import owner, tree

PREFIX = "repodojo-grade-"
_NAME = re.compile(rf"{PREFIX}(\d+)-(\d+)-([0-9a-f]{{8}})-.*")


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """An empty folder. Raises ``OSError``."""
    _reap(tempfile.gettempdir())
    me = owner.me()
    prefix = f"{PREFIX}{me.pid}-{me.started}-{_machine(me)}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@lru_cache
def _reap(above: str) -> None:
    """Remove what dead processes of this machine left, once for each place."""
    me = owner.me()
    for folder in Path(above).glob(f"{PREFIX}*"):
        if (name := _NAME.fullmatch(folder.name)) and name[3] == _machine(me):
            whose = owner.Owner(int(name[1]), name[2], me.boot, me.namespace)
            if owner.abandoned(whose, running=False):
                tree.remove(str(folder))


def _machine(whose: owner.Owner) -> str:
    """Short for the boot and the process namespace: a number of another one cannot be judged from here."""
    return hashlib.sha256(f"{whose.boot} {whose.namespace}".encode()).hexdigest()[:8]
