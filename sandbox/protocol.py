"""The face of a sandbox: the same verbs over every backend.

One tool server process lives inside each sandbox and speaks JSON-RPC over its standard streams. A backend differs only
in how that process is started, so the agent, the tools and the tests are the same over ``docker`` and ``local``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from sandbox.network import Network

WORKSPACE = "/workspace"
"""Where the task's tree lies inside every sandbox that can mount; observations name this path only."""


class SandboxError(Exception):
    """The sandbox itself failed (start, transport, a dead server): infrastructure, never the policy's own fault."""


class Limits(BaseModel):
    """Resource limits of one sandbox. A configured limit that a backend cannot honour is refused at start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mb: int = 1024
    """Memory and swap together, in MiB."""
    pids: int = 256
    """Processes and threads."""
    cpus: float = 1.0
    """CPU share, in cores (``local`` refuses another than the default where it can make no control group)."""
    command_s: float = 60.0
    """Default time-out of one command, in seconds."""
    output_chars: int = 16_000
    """Characters kept of one command's output (head and tail; what was cut is counted)."""


class Spec(BaseModel):
    """What to open: a private copy of ``tree`` at :data:`WORKSPACE`, with ``site`` on the import path of its Python."""

    model_config = ConfigDict(frozen=True)

    tree: Path
    site: Path | None = None
    source_root: str = "."
    image: str | None = None
    python: str | None = None
    """Interpreter that the task needs, by its absolute path in the image (or on this machine, for ``local``): it then
    stands for the toolbox's own on the path. ``None``: the toolbox's."""
    network: Network = "none"
    """What commands may reach; a backend that cannot keep a list refuses it."""
    limits: Limits = Limits()
    editor: bool = True
    """Whether the episode uses the editor: grading sandboxes leave it out and start faster."""


class ExecResult(BaseModel):
    """One command's end."""

    model_config = ConfigDict(frozen=True)

    output: str
    """stdout and stderr interleaved, as decoded text, capped."""
    exit_code: int | None
    """``None`` when the command was killed on time-out or its shell died."""
    timed_out: bool = False
    cut: int = 0
    """Characters removed from the middle of ``output``."""


class EditResult(BaseModel):
    """One editor call's end."""

    model_config = ConfigDict(frozen=True)

    output: str
    ok: bool


class Sandbox(Protocol):
    """One live sandbox. Every method raises :class:`SandboxError` when the sandbox itself fails; nothing else is raised
    for what the agent's command did."""

    backend: str
    network: Network
    """What its commands may reach: a tool that goes out from inside asks here first."""

    async def run(self, command: str, timeout_s: float | None = None) -> ExecResult:
        """Run in the persistent bash (environment and working directory kept). On time-out the whole process group
        dies, the shell is restarted and ``timed_out`` says so."""
        ...

    async def edit(self, **call: Any) -> EditResult:
        """One OHEditor call: ``command`` in view, create, str_replace, insert, undo_edit; ``path`` relative to the
        workspace or absolute inside it; the rest as OHEditor names them. A refused call is
        ``ok=False``, not an exception."""
        ...

    async def read(self, path: str) -> bytes:
        """Bytes of one file below the workspace. ``FileNotFoundError`` when absent."""
        ...

    async def write(self, path: str, data: bytes, executable: bool = False) -> None:
        """Create or replace one file below the workspace, parents included."""
        ...

    async def manifest(self) -> dict[str, str]:
        """``path -> "mode:sha256"`` of the workspace's files (mode f, x or l), without ``.git`` and caches."""
        ...

    async def lsp(self, verb: str, **args: Any) -> dict[str, Any]:
        """A lanser verb run inside, answered as a bundle (a plain dict)."""
        ...

    async def close(self) -> None:
        """Stop and remove everything. Idempotent; never raises for an already dead sandbox."""
        ...


class Backend(Protocol):
    """Starts sandboxes of one kind."""

    name: str

    async def open(self, spec: Spec) -> Sandbox:
        """A fresh sandbox. Raises :class:`SandboxError`."""
        ...

    async def close(self) -> None:
        """Release what the backend itself holds; sandboxes still open are closed."""
        ...


def tree_hash(manifest: Mapping[str, str]) -> str:
    """Name of a tree: SHA-256 over the sorted manifest, ``sha256:`` and 64 hex digits."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(manifest):
        digest.update(f"{path}\0{manifest[path]}\n".encode(errors="surrogateescape"))
    return f"sha256:{digest.hexdigest()}"
