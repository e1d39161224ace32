"""What the warm start is demonstrated on: training tasks first, then further faults in their packages.

A lesson is a task whose folder holds the faulty module and nothing else: the scripted solver edits one file, and no
command is ever run there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.warm import warm_start
from sandbox.task import Prepared, Task, TaskSource


@contextmanager
def lessons(train: Sequence[Task], source: TaskSource, seed: int, limit: int) -> Generator[Iterator[Prepared]]:
    """At most ``limit`` lessons; their folders live as long as the context.

    Training tasks come with the statements that episodes will show; the rest are unvalidated faults of the training
    packages (:func:`benchmarks.warm.warm_start`). The same arguments give the same lessons. Raises ``TaskError``.
    """
    with tempfile.TemporaryDirectory(prefix="repodojo-lessons-") as home:
        yield (_lesson(Path(home), task, files) for task, files in _texts(train, source, seed, limit))


def _texts(train: Sequence[Task], source: TaskSource, seed: int, limit: int) -> Iterator[tuple[Task, dict[str, str]]]:
    own = [task for task in train if task.focus][:limit]
    for task in own:
        path = (task.focus or "").partition("::")[0]
        yield task, {path: (source.prepare(task).base / path).read_text(encoding="utf-8")}
    known = {task.instance_id for task in train}
    for example in warm_start(seed=seed, limit=max(0, limit - len(own)), skip=known):
        yield example.task, example.files


def _lesson(home: Path, task: Task, files: dict[str, str]) -> Prepared:
    base = home / task.instance_id
    for path, text in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text, encoding="utf-8")
    return Prepared(task=task, base=base, tests=home, site=home)
