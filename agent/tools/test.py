"""Run the tests that the repository shows. The hidden ones are not there: they join the tree when a patch is graded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import ClassVar

from agent.errors import ToolError
from agent.tools.tool import Arguments, Result, Scene
from sandbox.protocol import WORKSPACE

OPTIONS = "-q --no-header --tb=short --color=no -p no:cacheprovider"
LINES = 40
NO_TESTS = 5
"""pytest's exit code when it collected nothing."""


class TestArgs(Arguments):
    __test__ = False  # its name is no invitation to pytest

    select: str = ""
    """Files, folders or test ids, separated by spaces; every test when it is empty."""
    keyword: str | None = None
    """Only tests whose names match this expression, as pytest's ``-k``."""


class Test:
    """pytest's verdict, shortened from the front: the end says most."""

    __test__ = False

    name: ClassVar[str] = "test"
    fences: ClassVar[tuple[str, ...]] = ("test",)
    body: ClassVar[str | None] = "select"
    info: ClassVar[str | None] = None
    help: ClassVar[str] = "run the repository's tests (pytest), all of them or those that are named"
    Args: ClassVar[type[Arguments]] = TestArgs

    async def run(self, args: Arguments, scene: Scene) -> Result:
        assert isinstance(args, TestArgs)
        done = await scene.sandbox.run(
            command(args.select, args.keyword, scene.python, scene.pytest_args), scene.seconds()
        )
        if done.timed_out:
            return Result(text=f"{tail(done.output)}\n[timed out: killed]", ok=False, touched=True)
        text = tail(done.output) or "[no output]"
        if done.exit_code == NO_TESTS:
            text = "no tests were found" if "no tests ran" in text else text
        return Result(text=text, ok=done.exit_code is not None, touched=True, exit_code=done.exit_code)


def command(select: str, keyword: str | None, python: str = "python", more: Sequence[str] = ()) -> str:
    """In a subshell at the repository's root, with the arguments that grading uses too (``more``). Raises ``ToolError``
    for an option among the tests.
    """
    try:
        words = shlex.split(select)
    except ValueError:
        raise ToolError("error: test: select: a quotation mark is not closed.") from None
    option = next((word for word in words if word.startswith("-")), None)
    if option is not None:
        raise ToolError(f"error: test: select: {option} is an option; name files, folders or test ids.")
    chosen = shlex.join([*more, *words]) + (f" -k {shlex.quote(keyword)}" if keyword else "")
    run = f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {shlex.quote(python)} -m pytest"
    return f"(cd {WORKSPACE} && {run} {OPTIONS} {chosen})"


def tail(output: str) -> str:
    """The last :data:`LINES` lines, without rulers' padding; what is cut is counted."""
    lines = [re.sub(r"[=_-]{6,}", "==", line) for line in output.strip().split("\n")]
    cut = len(lines) - LINES
    return "\n".join(lines if cut <= 0 else [f"[{cut} lines cut]", *lines[-LINES:]])
