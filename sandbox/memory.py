"""A sandbox without walls for actions that need none: files, the editor and manifests, but no command is ever run.

It is the real double of a sandbox: scripted episodes that only edit are played here by the thousand, with the same
editor and the same hashes as inside. ``run`` answers a refusal; nothing that a model wrote is executed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox import tree
from sandbox.network import Network
from sandbox.protocol import EditResult, ExecResult, SandboxError, Spec

REFUSAL = "commands are not run in this sandbox"


class MemorySandbox:
    """One folder, private to it, removed at :meth:`close`."""

    backend = "memory"
    network: Network = "none"

    def __init__(self, folder: str, copied: Mapping[str, str] | None = None) -> None:
        """``copied``: the manifest of the tree that lies there as a fresh copy."""
        self._folder = folder
        self._root = f"{folder}/workspace"
        self._hasher = tree.Hasher(self._root)
        self._hasher.trust(copied or {})
        self._editor: Any = None

    async def run(self, command: str, timeout_s: float | None = None) -> ExecResult:
        return ExecResult(output=REFUSAL, exit_code=126)

    async def edit(self, **call: Any) -> EditResult:
        if self._editor is None:
            from sandbox.editor import GuardedEditor

            self._editor = GuardedEditor(self._root)
        return EditResult(**self._editor(**call))

    async def read(self, path: str) -> bytes:
        return tree.read_file(self._root, path)

    async def write(self, path: str, data: bytes, executable: bool = False) -> None:
        tree.write_file(self._root, path, data, executable)
        self._hasher.forget(os.path.relpath(tree.inside(self._root, path), os.path.realpath(self._root)))

    async def manifest(self) -> dict[str, str]:
        return self._hasher.manifest()

    async def lsp(self, verb: str, **args: Any) -> dict[str, Any]:
        raise SandboxError("a memory sandbox has no language server")

    async def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class MemoryBackend:
    """Opens :class:`MemorySandbox` on a copy of a tree, or on files given as text."""

    name = "memory"

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="repodojo-memory-", dir=_memory_folder())
        self._hashers: dict[str, tree.Hasher] = {}
        self.folder = Path(self._home.name)
        """Where sandboxes live; empty when all are closed."""

    async def open(self, spec: Spec) -> MemorySandbox:
        """A fresh sandbox. Raises :class:`SandboxError`."""
        if spec.network != "none":
            raise SandboxError("a memory sandbox runs nothing that could reach a network: leave the allow-list out")
        folder = tempfile.mkdtemp(dir=self._home.name)
        try:
            tree.copy(str(spec.tree), f"{folder}/workspace")
            hasher = self._hashers.setdefault(str(spec.tree), tree.Hasher(str(spec.tree)))
            return MemorySandbox(folder, hasher.manifest())
        except OSError as error:
            raise SandboxError(f"the tree {spec.tree} cannot be copied: {error.strerror}") from error

    async def files(self, files: Mapping[str, str]) -> MemorySandbox:
        """A sandbox that holds ``files``: path to text."""
        folder = tempfile.mkdtemp(dir=self._home.name)
        Path(folder, "workspace").mkdir()
        for path, text in files.items():
            tree.write_file(f"{folder}/workspace", path, text.encode())
        return MemorySandbox(folder)

    async def close(self) -> None:
        self._home.cleanup()


def _memory_folder() -> str | None:
    """A file system in memory where there is one with room; else the default for temporary files."""
    shared = Path("/dev/shm")
    try:
        return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 28 else None
    except OSError:
        return None
