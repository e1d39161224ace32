"""One source for every kind of task that a row can name."""

from __future__ import annotations

from pathlib import Path

from benchmarks.pairs import PairSource, pair_of
from benchmarks.pypi import PyPISource
from benchmarks.swebench import SWEBenchSource, is_row
from sandbox.task import Prepared, Task


class Everything:
    """Builds the folders of our own rows, of release pairs and of SWE-bench's rows."""

    def __init__(self, backend: str, repos: Path | None = None) -> None:
        """``backend``: the kind of sandbox that they are for. ``repos``: clones of SWE-bench's repositories."""
        self._pypi, self._pairs, self._rows = PyPISource(), PairSource(backend), SWEBenchSource(backend, repos)

    def prepare(self, task: Task) -> Prepared:
        """Raises :class:`~sandbox.task.TaskError` with one sentence."""
        if pair_of(task) is not None:
            return self._pairs.prepare(task)
        return (self._rows if is_row(task) else self._pypi).prepare(task)
