"""The folder of one grading on this machine: it goes with the grading, or, where the process was killed meanwhile, when
the next one is made (:func:`sandbox.owner.folder`).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path

from sandbox import owner, tree

PREFIX = "repodojo-grade-"


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """An empty folder. Raises ``OSError``."""
    folder = owner.folder(Path(tempfile.gettempdir()), PREFIX)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            tree.remove(str(folder))
