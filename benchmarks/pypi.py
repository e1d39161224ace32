"""Tasks made from source distributions, made concrete: :class:`PyPISource`.

The tests tree is shared by the tasks of a package, the site folder by all.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.commit import commit_id
from benchmarks.packages import Package, PackageList, packages
from benchmarks.prepare import build_tree, home, key
from benchmarks.sites import site
from benchmarks.sources import fetch, pristine
from benchmarks.trees import base_tree, tests_tree
from sandbox.grading.tree import Tree
from sandbox.task import Prepared, Task, TaskError


class PyPISource:
    """Builds the folders of tasks whose ``origin`` is a pinned source distribution."""

    def __init__(self, pinned: PackageList | None = None) -> None:
        self._pinned = pinned or packages()

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Fetch the distributions of many tasks at once. Raises :class:`TaskError`."""
        fetch({package.name: package for package in map(self._pinned.of, tasks)}.values())

    def prepare(self, task: Task) -> Prepared:
        """Build (or find) base tree, tests tree and site folder. Raises :class:`TaskError` with one sentence."""
        package = self._pinned.of(task)
        base = home("base") / key(package.model_dump(), task.hidden, task.patch, task.base_commit)
        if not base.is_dir():
            build_tree(base, _checked(task, package))
        tests = home("tests") / key(package.model_dump())
        if not tests.is_dir():
            build_tree(tests, tests_tree(package, pristine(package)), repository=False)
        return Prepared(task=task, base=base, tests=tests, site=site(self._pinned.site["requirements"]))


def _checked(task: Task, package: Package) -> Tree:
    tree = base_tree(task, pristine(package))
    commit = commit_id(tree)
    if task.base_commit not in ("", commit):
        raise TaskError(
            f"the base tree of {task.instance_id} is commit {commit}, but its row says {task.base_commit}: "
            "the row was changed or made by another version; make it again with `dojo tasks make`"
        )
    return tree
