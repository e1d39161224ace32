"""Texts of a workspace, now and as of a version: what relocation reads (standard library only).

A version is ``sha256:...``, the digest of a file's bytes that this process has seen, or ``git:REV``, a revision of
the workspace's repository.
"""

from __future__ import annotations

import os
import subprocess
from collections import OrderedDict
from pathlib import Path

from lsp.canonical import digest_bytes
from lsp.errors import Code, LanserError
from lsp.positions import Text
from lsp.text import decode
from lsp.workspace import Workspace, uri_to_path

KEPT = 4096
"""Texts that are remembered."""


class Snapshots:
    """Texts by digest, and the workspace's files as they are at the last scan."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: OrderedDict[str, Text | None] = OrderedDict()

    def paths(self) -> list[str]:
        return self._workspace.sources()

    def version(self, path: str) -> str | None:
        """The digest of a file as of the last scan."""
        entry = self._workspace.entries.get(path)
        return entry.digest if entry else None

    def text(self, path: str) -> Text | None:
        version = self.version(path)
        if version is None:
            return None
        if version not in self._known:
            self._read(path)
        return self._known.get(version)

    def old(self, path: str, version: str) -> Text | None:
        if version.startswith("git:"):
            return _of_bytes(git_show(self._workspace.root, version[4:], path))
        if version == self.version(path):
            return self.text(path)
        return self._known.get(version)

    def resolve(self, uri: str) -> str:
        full = uri_to_path(uri) if "://" in uri else uri
        if full is None:
            raise LanserError(Code.JAIL, f"{uri} is not a file of this workspace")
        real = os.path.realpath(self._workspace.root / full)
        rest = os.path.relpath(real, self._workspace.root)
        if rest == ".." or rest.startswith("../"):
            raise LanserError(Code.JAIL, f"{uri} lies outside the workspace")
        return rest

    def _read(self, path: str) -> None:
        try:
            data = self._workspace.read(path)
        except LanserError:
            return
        self._known[digest_bytes(data)] = _of_bytes(data)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def git_show(root: Path, revision: str, path: str) -> bytes | None:
    """Bytes of ``path`` (relative to ``root``) at ``revision``; ``None`` when git has no such thing."""
    if revision.startswith("-"):
        return None
    done = subprocess.run(["git", "-C", str(root), "show", f"{revision}:./{path}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _of_bytes(data: bytes | None) -> Text | None:
    if data is None:
        return None
    try:
        return Text(decode(data).text)
    except UnicodeError:
        return None
