"""What a patch may touch: the rule that keeps a graded tree from steering its own grading.

Each changed path gets one of three answers. ``ALLOWED``: source, data, documentation. ``DROPPED``: tests, which the
task restores anyway; an agent may write tests while it works, they only never count. ``REFUSED``: what configures the
test runner or the interpreter's start, what would stand in front of the standard library or of the test runner's own
modules, compiled caches, links. A path that the task's gold patch touches is allowed whatever it is. In a task about
pytest itself the runner is the code under test, and may be changed; nothing in the process can then be trusted, which
the flags say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from sandbox.grading.patch import Change, PatchError, parse
from sandbox.grading.tree import Tree, skipped
from sandbox.task import Prepared, Task

CONFIG = frozenset(
    {
        "conftest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "pyproject.toml",
    }
    | {"pyvenv.cfg", ".coveragerc"}
)
"""File names that pytest, coverage or an interpreter's start read."""
START = frozenset({"sitecustomize", "usercustomize", "_pytest", "pytest", "pluggy", "iniconfig"})
"""Modules that are imported before or around the tests, wherever they lie."""
PACKAGED = (".dist-info", ".egg-info", ".egg-link", ".data")
"""Installed metadata: where entry points, and so plugins, are declared."""
SUFFIXES = (".pth", ".pyc", ".pyo", "._pth")


class Answer(StrEnum):
    """What becomes of one changed path."""

    ALLOWED = "allowed"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True)
class Sorted:
    """A patch's changes, sorted by what becomes of them."""

    allowed: list[Change]
    dropped: list[Change]
    refused: list[tuple[str, str]]
    """Path and reason."""


def sort_changes(changes: Iterable[Change], prepared: Prepared, base: Tree) -> Sorted:
    """Sort the changes of a patch on ``prepared``'s base tree."""
    task = prepared.task
    free = _gold_paths(task)
    shadows = Shadows(task, base, _top_names(prepared.site))
    result = Sorted([], [], [])
    for change in changes:
        answers = [judge(path, change, shadows) for path in _paths(change) if path not in free]
        refused = next((reason for answer, reason in answers if answer is Answer.REFUSED), None)
        if refused is not None:
            result.refused.append((change.path, refused))
        elif any(answer is Answer.DROPPED for answer, _ in answers):
            result.dropped.append(change)
        else:
            result.allowed.append(change)
    return result


def _paths(change: Change) -> list[str]:
    return [path for path in dict.fromkeys((change.old, change.new)) if path is not None]


def _gold_paths(task: Task) -> frozenset[str]:
    try:
        return frozenset(path for change in parse(task.patch) for path in _paths(change))
    except PatchError:
        return frozenset()


def judge(path: str, change: Change, shadows: Shadows) -> tuple[Answer, str]:
    """The answer for one path of a change, with the reason of a refusal."""
    parts = PurePosixPath(path.lower()).parts
    stem = parts[-1].split(".")[0]
    if change.mode == "l":
        return Answer.REFUSED, "a symbolic link"
    if parts[-1] in CONFIG:
        return Answer.REFUSED, "configuration of the test runner"
    if skipped(path.lower()) or parts[-1].endswith(SUFFIXES) or any(part.endswith(PACKAGED) for part in parts):
        return Answer.REFUSED, "a cache, a path file or installed metadata"
    if not shadows.runner_itself and (stem in START or START & set(parts[:-1])):
        return Answer.REFUSED, "a module of the test runner or of the interpreter's start"
    if is_test(path):
        return Answer.DROPPED, "a test"
    if change.new == path and (name := shadows.shadowed(path)):
        return Answer.REFUSED, f"it would stand in front of the module {name}"
    return Answer.ALLOWED, ""


def is_test(path: str) -> bool:
    """Whether pytest's conventions make the path a test or something of the tests."""
    *folders, name = PurePosixPath(path).parts
    return any(folder in ("test", "tests") for folder in folders) or (
        name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py") or name == "tests.py")
    )


class Shadows:
    """New modules at a root of the import path whose names the library or the site folder has already."""

    def __init__(self, task: Task, base: Tree, site_names: frozenset[str]) -> None:
        self._roots = sorted(
            {"", _clean(task.source_root), *(_clean(str(PurePosixPath(file).parent)) for file in task.test_files)}
        )
        self._taken = sys.stdlib_module_names | site_names
        source = _clean(task.source_root)
        self.runner_itself = any(path.startswith(f"{source}_pytest/") for path in base)
        """Whether the task is about pytest, so that the tree under test is its own runner."""
        self._own = {(root, name) for path in base for root, name in self._names(path)}

    def shadowed(self, path: str) -> str | None:
        """The module that a new file at ``path`` would hide, or ``None``."""
        return next(
            (name for root, name in self._names(path) if name in self._taken and (root, name) not in self._own), None
        )

    def _names(self, path: str) -> Iterator[tuple[str, str]]:
        for root in self._roots:
            if path.startswith(root):
                first = path[len(root) :].split("/")[0]
                yield root, first.split(".")[0]


def _clean(folder: str) -> str:
    return "" if folder in (".", "") else folder.rstrip("/") + "/"


def _top_names(site: Path) -> frozenset[str]:
    if not site.is_dir():
        return frozenset()
    return frozenset(
        entry.name.split(".")[0] for entry in site.iterdir() if not entry.name.endswith((".dist-info", "__pycache__"))
    )
