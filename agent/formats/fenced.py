"""One fenced block is one action: its info string names the tool, its body is the argument.

    ```bash          a command                      ```submit      nothing
    ```python        the rewritten function         ```edit        a JSON object of arguments

Text around the block is allowed and ignored, and so are blocks whose info string names no tool. Exactly one action is
expected. Fences follow CommonMark where it matters: a fence starts a line, and a block is closed by a line of at
least as many backticks and nothing else, so that a body with fences of its own is written between longer ones. A
block that is still open at the end of an answer counts when the answer ended by itself, not when it was cut: its body
may be half of what was meant.

Chosen for small models: the fence is four tokens that a chat model knows, ``submit`` costs five with its end token,
and no argument is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.errors import FormatError
from agent.formats.format import decode
from agent.tools.describe import arguments
from agent.tools.tool import Tool
from agent.trajectory import Action

_OPEN = re.compile(r"(`{3,})[ \t]*([^\s`]+)[ \t]*([^`\n]*?)[ \t\r]*")
_BARE = re.compile(r"(`{3,})[ \t\r]*")
_RUN = re.compile(r"^`{3,}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Block:
    fence: str
    info: str
    body: str
    closed: bool


class Fenced:
    """The parser and the renderer over one set of tools."""

    name: ClassVar[str] = "fenced"
    parallel: ClassVar[bool] = False

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._owner = {fence: tool for tool in tools.values() for fence in tool.fences}

    def parse(self, text: str, cut: bool) -> tuple[Action, ...]:
        blocks = list(self._blocks(text))
        if not blocks:
            raise FormatError(f"error: no action found. Answer with one {self._menu()} block.")
        if len(blocks) > 1:
            raise FormatError(f"error: {len(blocks)} actions found. Answer with exactly one block.")
        if cut and not blocks[0].closed:
            raise FormatError("error: the answer was too long and its block was cut. Answer with one short block.")
        return (self._action(blocks[0]),)

    def render(self, *actions: Action) -> str:
        (action,) = actions
        tool = self._tools[action.tool]
        args = dict(action.args)
        info = str(args.pop(tool.info)) if tool.info and args.get(tool.info) is not None else ""
        if tool.body is not None:
            body = str(args.pop(tool.body, ""))
        else:
            body = json.dumps(args, ensure_ascii=False) if args else ""
        ticks = "`" * max(3, *(len(run) + 1 for run in _RUN.findall(body)), 3)
        head = f"{ticks}{tool.fences[0]}{' ' if info else ''}{info}"
        return f"{head}\n{body}\n{ticks}" if body else f"{head}\n{ticks}"

    def observe(self, texts: Sequence[str]) -> str:
        return "\n".join(texts)

    def help(self) -> str:
        tools = "\n".join(f"* ```{tool.fences[0]}: {tool.help}{_body(tool)}" for tool in self._tools.values())
        return (
            f"An action is one fenced block. Its first line names the tool:\n{tools}\nWrite exactly one block a turn."
        )

    def _menu(self) -> str:
        return " or ".join(f"```{tool.fences[0]}" for tool in self._tools.values())

    def _blocks(self, text: str) -> Iterator[_Block]:
        """The blocks whose info string names a tool, in order."""
        lines = text.split("\n")
        i = 0
        while i < len(lines):
            opening = _OPEN.fullmatch(lines[i])
            i += 1
            if opening is None:
                continue
            ticks, fence, info = opening.groups()
            end = next((k for k in range(i, len(lines)) if self._closes(lines[k], ticks)), len(lines))
            if fence in self._owner:
                self._refuse_nested(lines[i:end], ticks)
                yield _Block(fence, info, "\n".join(lines[i:end]), closed=end < len(lines))
            i = end + 1

    @staticmethod
    def _closes(line: str, ticks: str) -> bool:
        bare = _BARE.fullmatch(line)
        return bare is not None and len(bare[1]) >= len(ticks)

    def _refuse_nested(self, body: list[str], ticks: str) -> None:
        """A second block opened inside the first is a forgotten closing fence, not a body."""
        for line in body:
            opening = _OPEN.fullmatch(line)
            if opening and len(opening[1]) >= len(ticks) and opening[2] in self._owner:
                raise FormatError(
                    "error: a second block begins before the first is closed. Answer with exactly one block."
                )

    def _action(self, block: _Block) -> Action:
        tool = self._owner[block.fence]
        args = {tool.body: block.body} if tool.body is not None else _json(block)
        if block.info and tool.info:
            args[tool.info] = block.info
        return Action(tool=tool.name, args=args)


def _body(tool: Tool) -> str:
    """What the block of a tool holds, where its help does not end the matter."""
    if tool.body is not None:
        return f" (the block is the {tool.body}; {tool.info} may follow the fence)" if tool.info else ""
    return f" (a JSON object: {arguments(tool)})" if tool.Args.model_fields else ""


def _json(block: _Block) -> dict[str, Any]:
    if not block.body.strip():
        return {}
    what = f"the body of ```{block.fence}"
    value, end = decode(block.body, 0, what)
    if block.body[end:].strip():
        raise FormatError(f"error: {what} is not valid JSON: more follows the object.")
    if not isinstance(value, dict):
        raise FormatError(f"error: {what} has to be a JSON object.")
    return value
