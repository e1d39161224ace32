"""A small package with one injected fault, made by the tests themselves: a task that every backend can open in a
moment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, Tree, read_tree
from sandbox.task import Prepared, Task

BUGGY = """\
\"\"\"Numbers.\"\"\"


def clamp(value, low, high):
    if value < low:
        return high
    if value > high:
        return high
    return value


def double(value):
    return value * 2
"""
FIXED = BUGGY.replace("return high\n    if", "return low\n    if")
TEST = """\
from toy.numbers import clamp, double


def test_low():
    assert clamp(-1, 0, 10) == 0


def test_high():
    assert clamp(11, 0, 10) == 10


def test_double():
    assert double(4) == 8
"""
F2P = ("tests/test_numbers.py::test_low",)
P2P = ("tests/test_numbers.py::test_high", "tests/test_numbers.py::test_double")
BASE = {
    "README.md": "toy\n",
    "toy/__init__.py": "",
    "toy/numbers.py": BUGGY,
    "tests/test_visible.py": "from toy.numbers import double\n\n\ndef test_two():\n    assert double(1) == 2\n",
    "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef ten():\n    return 10\n",
}
IDENTITY = {
    "GIT_AUTHOR_NAME": "toy", "GIT_AUTHOR_EMAIL": "toy@example.org", "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "toy", "GIT_COMMITTER_EMAIL": "toy@example.org", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip


def make(folder: Path, base: dict[str, str] | None = None) -> Prepared:
    """The toy task's folders below ``folder``."""
    tree, tests = folder / "base", folder / "tests"
    _fill(tree, base or BASE)
    _fill(tests, {"tests/test_numbers.py": TEST, "tests/conftest.py": BASE["tests/conftest.py"]})
    task = Task(
        instance_id="toy-1", repo="toy", base_commit=_commit(tree), problem_statement="clamp is wrong below the range",
        patch=patch(tree, {"toy/numbers.py": FIXED}), FAIL_TO_PASS=F2P, PASS_TO_PASS=P2P,
        hidden=("tests/test_numbers.py",), test_files=("tests/test_numbers.py",), focus="toy/numbers.py::clamp",
    )  # fmt: skip
    return Prepared(task=task, base=tree, tests=tests, site=site(folder))


def patch(tree: Path, changes: Mapping[str, Entry | str | None]) -> str:
    """The patch that makes ``changes`` (path -> new text or entry, or ``None`` to delete) to ``tree``."""
    before = read_tree(tree)
    after: dict[str, Entry] = dict(before)
    for path, text in changes.items():
        if text is None:
            after.pop(path)
        else:
            after[path] = text if isinstance(text, Entry) else Entry("f", text.encode())
    return diff(before, after)


def site(folder: Path) -> Path:
    """A site folder with pytest and what it needs, copied from where the tests run."""
    target = folder / "site"
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for source in _tops(name):
            if source.is_dir():
                shutil.copytree(source, target / source.name, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / source.name)
    return target


@cache
def _tops(name: str) -> list[Path]:
    """Top-level folders and modules of an installed distribution."""
    distribution = metadata.distribution(name)
    files = distribution.files or []
    tops = {file.parts[0] for file in files if not file.parts[0].startswith("..") and file.parts[0] != "__pycache__"}
    return [Path(str(distribution.locate_file(top))) for top in sorted(tops)]


def _fill(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _commit(tree: Path) -> str:
    def git(*args: str) -> str:
        command = ["git", "-C", str(tree), *args]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **IDENTITY}
        ).stdout

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "base")
    return git("rev-parse", "HEAD").strip()


def tree_of(files: dict[str, str]) -> Tree:
    """Text files as a tree."""
    return {name: Entry("f", text.encode()) for name, text in files.items()}
