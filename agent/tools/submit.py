"""The end of an episode: the tree as it stands is the answer."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import Stop
from agent.tools.tool import Arguments, Result, Scene
from agent.trajectory import End


class SubmitArgs(Arguments):
    """None: what is submitted is the tree."""


class Submit:
    """Raises ``Stop(End.SUBMITTED)``."""

    name: ClassVar[str] = "submit"
    fences: ClassVar[tuple[str, ...]] = ("submit",)
    body: ClassVar[str | None] = None
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "hand in the repository as it is now and end the task"
    Args: ClassVar[type[Arguments]] = SubmitArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        raise Stop(End.SUBMITTED)
