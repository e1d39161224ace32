"""File trees as values: path -> (mode, bytes), without version control and caches.

Everything that grading decides is decided on such values, outside of any sandbox and without git: what an agent left in
its ``.git`` (hooks, filters, attributes, later commits) is never read, let alone executed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox import tree

Mode = Literal["f", "x", "l"]


class Entry(NamedTuple):
    """One file: ``f`` plain, ``x`` executable, ``l`` symbolic link (its bytes are the target)."""

    mode: Mode
    data: bytes


Tree = Mapping[str, Entry]
"""Paths are relative, with ``/``; bytes that are no UTF-8 appear as lone surrogates, as in :mod:`os`."""


def skipped(path: str) -> bool:
    """Whether a path belongs to no tree."""
    *folders, name = path.split("/")
    return any(folder in tree.IGNORED_FOLDERS for folder in folders) or name.endswith(tree.IGNORED_SUFFIXES)


def read_tree(root: Path) -> dict[str, Entry]:
    """The tree below ``root``, sorted. Special files are left out; links are not followed."""
    found = {path: _entry(Path(entry.path)) for path, entry in tree.walk(str(root))}
    return {path: entry for path, entry in sorted(found.items()) if entry}


@lru_cache(maxsize=64)
def read_frozen(root: Path) -> Tree:
    """:func:`read_tree` of a folder that nobody writes any more (a :class:`~sandbox.task.Prepared` one), remembered."""
    return read_tree(root)


@lru_cache(maxsize=64)
def frozen_manifest(root: Path) -> Mapping[str, str]:
    """:func:`manifest` of such a folder, remembered."""
    return manifest(read_frozen(root))


def _entry(path: Path) -> Entry | None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Entry("l", os.fsencode(path.readlink()))
    if stat.S_ISREG(mode):
        return Entry("x" if mode & 0o100 else "f", path.read_bytes())
    return None


def write_tree(files: Tree, root: Path) -> None:
    """Create ``files`` below ``root``, an empty or absent folder. Links come last: nothing is written
    through one.
    """
    made: set[Path] = set()
    for path, entry in sorted(files.items(), key=lambda item: item[1].mode == "l"):
        target = root / path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        if entry.mode == "l":
            target.symlink_to(os.fsdecode(entry.data))
        else:
            target.write_bytes(entry.data)
            target.chmod(0o755 if entry.mode == "x" else 0o644)


def manifest(files: Tree) -> dict[str, str]:
    """``path -> "mode:sha256"``, as :meth:`sandbox.protocol.Sandbox.manifest` gives it for the same tree."""
    return {path: f"{entry.mode}:{hashlib.sha256(entry.data).hexdigest()}" for path, entry in files.items()}
