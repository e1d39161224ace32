"""The editor: OHEditor's five commands, called through the sandbox's guarded face."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from agent.errors import ToolError
from agent.tools.tool import Arguments, Result, Scene


class EditArgs(Arguments):
    command: Literal["view", "create", "str_replace", "insert", "undo_edit"]
    """One of OHEditor's five."""
    path: str = Field(min_length=1)
    """Relative to the repository's root."""
    file_text: str | None = None
    """Of ``create``."""
    old_str: str | None = None
    """Of ``str_replace``: has to occur exactly once."""
    new_str: str | None = None
    """Of ``str_replace`` and ``insert``."""
    insert_line: int | None = None
    """Of ``insert``: the text goes after this line."""
    view_range: tuple[int, int] | None = None
    """Of ``view``: first and last line."""


class Edit:
    """One editor call."""

    name: ClassVar[str] = "edit"
    fences: ClassVar[tuple[str, ...]] = ("edit",)
    body: ClassVar[str | None] = None
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "view or edit a file"
    Args: ClassVar[type[Arguments]] = EditArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, EditArgs)
        call = args.model_dump(exclude_none=True)
        if args.view_range is not None:
            call["view_range"] = list(args.view_range)
        done = await scene.sandbox.edit(**call)
        if not done.ok:
            raise ToolError(done.output if done.output.lower().startswith("error") else f"error: {done.output}")
        return Result(text=done.output, touched=args.command != "view")
