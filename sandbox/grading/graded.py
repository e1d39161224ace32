"""The tree that is graded, computed outside of any sandbox: base, what the patch may change, the task's own tests over
it (pure).
"""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.grading.flags import flags
from sandbox.grading.patch import PatchError, apply_changes, parse
from sandbox.grading.paths import sort_changes
from sandbox.grading.tree import Entry, Tree, read_frozen
from sandbox.task import Prepared


class Refused(Exception):
    """The patch touches what no patch may touch. The message names the first such path; ``flags`` are kept."""

    def __init__(self, message: str, found: tuple[str, ...]) -> None:
        super().__init__(message)
        self.flags = found


@dataclass(frozen=True)
class Graded:
    """What a grading sandbox is opened on, and what was seen on the way."""

    tree: dict[str, Entry]
    flags: tuple[str, ...]
    dropped: tuple[str, ...]
    """Paths of tests that the patch changes and that grading leaves out."""


def graded(prepared: Prepared, patch: str) -> Graded:
    """The graded tree. Raises :class:`Refused`, or :class:`~sandbox.grading.patch.PatchError` when the patch does not
    fit.
    """
    base = read_frozen(prepared.base)
    changes = parse(patch)
    whole = apply_changes(base, changes)
    found = flags(base, whole, changes)
    kinds = sort_changes(changes, prepared, base)
    if kinds.refused:
        path, reason = kinds.refused[0]
        raise Refused(f"the patch touches {path}: {reason}", found)
    patched = apply_changes(base, kinds.allowed) if kinds.dropped else whole
    tree = restore(patched, prepared)
    return Graded(tree, found, tuple(change.path for change in kinds.dropped))


def restore(patched: Tree, prepared: Prepared) -> dict[str, Entry]:
    """The task's tests and test configuration over ``patched``: nothing of the patch stays where they lie, above or
    below.
    """
    tests = read_frozen(prepared.tests)
    gone = {*prepared.task.hidden, *prepared.task.test_files, *tests}
    above = {parent for path in gone for parent in _parents(path)}
    tree = {
        path: entry
        for path, entry in patched.items()
        if path not in gone and path not in above and gone.isdisjoint(_parents(path))
    }
    return {**tree, **tests}


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def config_name(tests: Path) -> str | None:
    """The pytest configuration that a task brings at the root of its tests tree, in pytest's own order; ``None`` for
    none.
    """
    names = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
    return next((name for name in names if (tests / name).is_file() and _configures(tests / name)), None)


def _configures(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.name.endswith("pytest.ini"):
        return True
    if file.suffix == ".toml":
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PatchError(f"{file.name} of the task's tests is not TOML: {error}") from error
        return "ini_options" in tables.get("tool", {}).get("pytest", {})
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return False
    return parser.has_section("pytest" if file.name == "tox.ini" else "tool:pytest")
