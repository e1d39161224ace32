"""The tool protocol: one typed argument model, one coroutine, and how the tool looks in a fenced block."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from sandbox.protocol import Sandbox
from sandbox.task import Task


class Arguments(BaseModel):
    """Base of every argument model: an argument that the tool does not know is refused, not ignored. Docstrings under
    the fields are their descriptions in the schema, the prompt and the reference (``agent.tools.describe``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Web:
    """What an episode may ask of the web."""

    endpoint: str | None = None
    """A SearXNG instance; ``None``: none is configured."""
    offline: bool = True
    """The sandbox's policy: no network, so no search either."""


_NO_WEB = Web()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a tool may touch."""

    task: Task
    sandbox: Sandbox
    command_s: float
    """Time-out of one command in seconds."""
    deadline: float = field(default_factory=lambda: float("inf"))
    """``time.monotonic()`` at which the episode's wall clock runs out."""

    web: Web = _NO_WEB
    python: str = "python"
    """Interpreter of the task's code."""
    pytest_args: tuple[str, ...] = ()
    """What the task's tests need."""

    def seconds(self) -> float:
        """What a command started now may take: at least a second, so that a late command fails by itself."""
        return max(1.0, min(self.command_s, self.deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool did. Refusals are raised as :class:`agent.errors.ToolError` instead."""

    text: str
    """The observation, before scrubbing and capping."""
    ok: bool = True
    """No tool-level error. A command that exits non-zero is a tool that worked."""
    touched: bool = False
    """The tree may have changed: its hash is taken again."""
    exit_code: int | None = None
    confidence: float | None = None
    safe: bool | None = None
    bundle: dict[str, object] | None = None


class Tool(Protocol):
    """One tool. Stateless: everything that lives between turns lives in the sandbox."""

    name: ClassVar[str]
    """What ``Action.tool`` holds."""
    fences: ClassVar[tuple[str, ...]]
    """Info strings of its fenced block, the canonical one first."""
    body: ClassVar[str | None]
    """The argument that the block's body fills verbatim. ``None``: the body is a JSON object of arguments (nothing at
    all when the model has no fields)."""
    info: ClassVar[str | None]
    """The argument that the rest of the info string fills, when there is one."""
    help: ClassVar[str]
    """What it does, in one line for the prompt; the arguments are described by ``Args``."""
    Args: ClassVar[type[Arguments]]

    async def run(self, args: Arguments, scene: Scene) -> Result:
        """Do it. Raises ``ToolError`` (an observation), ``Stop`` (submit) or ``SandboxError``."""
        ...
