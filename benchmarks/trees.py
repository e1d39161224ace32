"""The trees of a task: what the agent starts from, and what grading restores (pure)."""

from __future__ import annotations

from benchmarks.packages import Package
from sandbox.grading.patch import Change, Hunk, PatchError, apply_changes, parse
from sandbox.grading.tree import Entry, Tree
from sandbox.task import Task, TaskError

CONFIG = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")
"""Test configuration at the root of a distribution: restored together with the tests."""


def base_tree(task: Task, pristine: Tree) -> dict[str, Entry]:
    """The distribution without hidden tests and with the fault, that is with the gold patch taken back.

    Raises :class:`TaskError` when the patch does not fit.
    """
    kept = {path: entry for path, entry in pristine.items() if path not in task.hidden}
    try:
        return apply_changes(kept, [_reversed(change) for change in parse(task.patch)])
    except PatchError as error:
        raise TaskError(f"the patch of {task.instance_id} does not fit {task.origin}: {error}") from None


def tests_tree(package: Package, pristine: Tree) -> dict[str, Entry]:
    """The package's tests and test configuration."""
    return {path: entry for path, entry in pristine.items() if path in CONFIG or package.is_test(path)}


def _reversed(change: Change) -> Change:
    """The change that undoes ``change``. Hunks are numbered by what they find, so each moves by what came before it."""
    if change.literal is not None or change.old != change.new:
        raise PatchError(f"{change.path}: the patch of a task made from a distribution changes lines of one file")
    moved, hunks = 0, list[Hunk]()
    for hunk in change.hunks:
        hunks.append(Hunk(hunk.start + moved, hunk.new, hunk.old))
        moved += len(hunk.new) - len(hunk.old)
    return Change(change.new, change.old, None, False, hunks)
