"""Tasks made from source distributions, made concrete: :class:`PyPISource`.

A prepared folder is named by the content that it is made from, built beside its place and moved there by one rename:
it is whole or absent, and a second preparation only looks. The tests tree is shared by the tasks of a package, the
site folder by all.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.commit import commit_id, write_repository
from benchmarks.packages import Package, PackageList, packages
from benchmarks.sites import site
from benchmarks.sources import fetch, pristine
from benchmarks.trees import base_tree, tests_tree
from sandbox.grading.tree import Tree, write_tree
from sandbox.task import Prepared, Task, TaskError
from sandbox.toolbox import cache_root

LAYOUT = 1
"""Part of every folder's name: raised when what a folder holds changes for the same row."""


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
        base = _home("base") / _key(package.model_dump(), task.hidden, task.patch, task.base_commit)
        if not base.is_dir():
            _build(base, _checked(task, package))
        tests = _home("tests") / _key(package.model_dump())
        if not tests.is_dir():
            _build(tests, tests_tree(package, pristine(package)), repository=False)
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


def _build(target: Path, tree: Tree, repository: bool = True) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
        fresh = Path(folder) / "tree"
        fresh.mkdir()
        write_tree(tree, fresh)
        if repository:
            write_repository(tree, fresh / ".git")
        try:
            fresh.rename(target)
        except OSError:
            # Another process was faster: its folder has the same content.
            if not target.is_dir():
                raise


def _home(kind: str) -> Path:
    return cache_root() / "tasks" / kind


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([LAYOUT, *parts], sort_keys=True).encode()).hexdigest()[:24]
