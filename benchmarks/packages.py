"""The pinned list of source distributions, and its hash.

``packages.toml`` decides what is train and what is held-out. Its SHA-256 stands in ``packages.sha256``, which is
committed before the first training run: a changed split cannot pass unseen.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox.task import Task, TaskError

LIST = Path(__file__).with_name("packages.toml")
DIGEST = Path(__file__).with_name("packages.sha256")


class Package(BaseModel):
    """One source distribution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Canonical name on the package index."""
    version: str
    sha256: str
    """Of the source distribution, 64 hex digits."""
    license: str
    """SPDX expression."""
    split: Literal["train", "heldout"]
    source_root: str = "."
    """Folder that goes on the import path."""
    source: tuple[str, ...]
    """Folders whose modules get faults."""
    tests: tuple[str, ...] = ()
    """Folders or files that hold the test suite; none: the package serves the warm start alone."""
    drop: tuple[str, ...] = ()
    """Folders or files that no tree of a task holds (documentation, sources in C)."""

    @property
    def origin(self) -> str:
        """The purl."""
        return f"pkg:pypi/{self.name}@{self.version}"

    @property
    def requirement(self) -> str:
        """The line of a requirements file that pins it."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    def is_test(self, path: str) -> bool:
        """Whether a path belongs to the test suite."""
        return under(path, self.tests)


class PackageList(BaseModel):
    """The whole list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: dict[Literal["requirements"], tuple[str, ...]]
    """Requirement lines (with hashes) of what a site folder holds."""
    package: tuple[Package, ...]

    def get(self, origin: str) -> Package:
        """The package that a purl names. Raises :class:`TaskError`."""
        for package in self.package:
            if package.origin == origin:
                return package
        raise TaskError(f"{origin} is not among the pinned packages ({LIST.name}); `dojo tasks list` shows what is")

    def of(self, task: Task) -> Package:
        """The package that a task is made from. Raises :class:`TaskError`."""
        if not (task.origin or "").startswith("pkg:pypi/"):
            raise TaskError(f"{task.instance_id} names no source distribution (its origin is {task.origin!r})")
        package = self.get(task.origin or "")
        if task.sha256 and task.sha256 != package.sha256:
            raise TaskError(
                f"{task.instance_id} was made from {package.origin} with sha256 {task.sha256}, "
                f"but {package.sha256} is pinned: make the rows again with `dojo tasks make`"
            )
        return package

    def named(self, names: tuple[str, ...]) -> tuple[Package, ...]:
        """Packages by name, all of them for no names. Raises :class:`TaskError`."""
        known = {package.name: package for package in self.package}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise TaskError(f"{unknown[0]} is not among the pinned packages: {', '.join(known)}")
        return tuple(known[name] for name in names) or self.package


def under(path: str, roots: tuple[str, ...]) -> bool:
    """Whether ``path`` is one of ``roots`` or below one."""
    return any(path == root or path.startswith(f"{root}/") for root in roots)


@cache
def packages(file: Path = LIST) -> PackageList:
    """The list. Raises :class:`TaskError` for a broken file."""
    try:
        return PackageList.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise TaskError(f"the package list {file} is broken: {str(error).splitlines()[0]}") from None


def digest(file: Path = LIST) -> str:
    """SHA-256 of the list, hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
