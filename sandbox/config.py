"""Settings of sandboxes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from sandbox.protocol import Limits


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
    unsafe_local: bool = False
    """Run a model's commands with ``local`` even where this machine offers no file-system confinement."""
