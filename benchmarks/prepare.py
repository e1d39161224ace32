"""Prepared folders: named by the content that they are made from, built beside their place and moved there by one
rename, so that each is whole or absent, and a second preparation only looks.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.commit import write_repository
from sandbox.grading.tree import Tree, write_tree
from sandbox.toolbox import cache_root

LAYOUT = 1
"""Part of every folder's name: raised when what a folder holds changes for the same row."""


def home(kind: str) -> Path:
    """Where folders of one kind are kept."""
    return cache_root() / "tasks" / kind


def key(*parts: object) -> str:
    """Name of what ``parts`` (JSON values) make."""
    return hashlib.sha256(json.dumps([LAYOUT, *parts], sort_keys=True).encode()).hexdigest()[:24]


def build_tree(target: Path, tree: Tree, repository: bool = True) -> Path:
    """``target`` with the files of ``tree``, as a repository of one commit unless told otherwise."""

    def fill(fresh: Path) -> None:
        write_tree(tree, fresh)
        if repository:
            write_repository(tree, fresh / ".git")

    return build(target, fill)


def build(target: Path, fill: Callable[[Path], None]) -> Path:
    """``target``, which ``fill`` makes (in an empty folder elsewhere) when it is not there."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
        fresh = Path(folder) / "tree"
        fresh.mkdir()
        fill(fresh)
        try:
            fresh.rename(target)
        except OSError:
            # Another process was faster: its folder has the same content.
            if not target.is_dir():
                raise
    return target
