"""Settings of sandboxes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from sandbox.network import Network
from sandbox.protocol import Limits


class PoolConfig(BaseModel):
    """What one backend is asked for at a time."""

    model_config = ConfigDict(extra="forbid")

    live: PositiveInt = 64
    """Sandboxes open at a time; who asks for more waits, in order of arrival."""
    starts: PositiveInt = 4
    """Of these, being made at a time."""
    execs: PositiveInt = 32
    """Commands that run at a time."""
    keep: NonNegativeInt = 4
    """Used sandboxes kept for another use where nothing tells them from new ones; 0: every use gets a new one
    (docker: a new local one costs less than the proof)."""


class SandboxConfig(BaseModel):
    """Where a task's code runs, and within which limits."""

    model_config = ConfigDict(extra="forbid")

    backend: Literal["auto", "docker", "local"] = "auto"
    """``auto`` takes docker where an engine answers and holds a usable image, else local; the choice is printed with
    its reason."""
    image: str | None = None
    """Image of docker sandboxes whose task names none; ``None`` takes the one that ``dojo images build`` made."""
    limits: Limits = Limits()
    """Resource limits of one sandbox."""
    network: Network = "none"
    """What an episode's commands may reach: nothing, or ``{ allow = ["pypi.org:443", "10.1.0.0/16"] }`` over HTTP and
    TLS. Grading never reaches anything."""
    pool: PoolConfig = PoolConfig()
    """Bounds and reuse of sandboxes."""
    prove_limits: bool = True
    """Try to go beyond each limit in a sandbox of its own before the first one is used (once a run)."""
    unsafe_local: bool = False
    """Run a model's commands with ``local`` even where this machine offers no file-system confinement."""
