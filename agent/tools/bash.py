"""A command in the sandbox's persistent bash."""

from __future__ import annotations

from typing import ClassVar

from agent.errors import ToolError
from agent.tools.tool import Arguments, Result, Scene


class BashArgs(Arguments):
    command: str
    """What bash reads. Environment and working directory are kept between turns."""


class Bash:
    """Run a command. The observation is its output and, unless it is 0, its exit code."""

    name: ClassVar[str] = "bash"
    fences: ClassVar[tuple[str, ...]] = ("bash", "sh")
    body: ClassVar[str | None] = "command"
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "run a command in the repository; environment and working directory are kept"
    Args: ClassVar[type[Arguments]] = BashArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, BashArgs)
        if not args.command.strip():
            raise ToolError("error: the command is empty.")
        done = await scene.sandbox.run(args.command, scene.seconds())
        return Result(
            text=_text(done.output.rstrip("\n"), done.exit_code, done.timed_out),
            ok=not done.timed_out and done.exit_code is not None,
            touched=True,
            exit_code=done.exit_code,
        )


def _text(output: str, exit_code: int | None, timed_out: bool) -> str:
    if timed_out:
        return f"{output}\n[timed out: killed, the shell was restarted]".lstrip("\n")
    if exit_code is None:
        return f"{output}\n[the shell died and was restarted]".lstrip("\n")
    if exit_code:
        return f"{output}\n[exit code {exit_code}]".lstrip("\n")
    return output or "[no output]"
