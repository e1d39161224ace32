"""OpenAI tool calls: the assistant's message as JSON, with ``tool_calls``, several when wanted.

    {"content": null, "tool_calls": [{"id": "call_0", "type": "function",
                                      "function": {"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}}]}

It is what an engine behind an OpenAI-compatible server hands over, and what a model trained on such transcripts writes.
Read are the whole message, the bare list of calls, and one bare call; ``arguments`` may be an object or its
JSON text. Prose may stand before the JSON, which begins a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from agent.errors import FormatError
from agent.formats.format import call, decode, few
from agent.tools.describe import schema
from agent.tools.tool import Tool
from agent.trajectory import Action

_START = re.compile(r"^[ \t]*([{\[])", re.MULTILINE)
CANDIDATES = 16
"""Lines that may begin the JSON; a text of brackets is not decoded for ever."""


class OpenAI:
    """The parser and the renderer over one set of tools."""

    name: ClassVar[str] = "openai"
    parallel: ClassVar[bool] = True

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    def parse(self, text: str, cut: bool) -> tuple[Action, ...]:
        problem: FormatError | None = None
        for start in islice(_START.finditer(text), CANDIDATES):
            try:
                calls = _calls(decode(text, start.start(1), "the message")[0])
            except FormatError as error:
                problem = problem or error
                continue
            if calls:
                return few([self._action(one) for one in calls])
        if cut:
            raise FormatError("error: the answer was too long and holds no whole tool call. Be shorter.")
        raise problem or FormatError("error: no tool call found. Answer with a JSON message that holds tool_calls.")

    def render(self, *actions: Action) -> str:
        calls = [
            {
                "id": _identity(index),
                "type": "function",
                "function": {"name": action.tool, "arguments": json.dumps(action.args, ensure_ascii=False)},
            }
            for index, action in enumerate(actions)
        ]
        return json.dumps({"content": None, "tool_calls": calls}, ensure_ascii=False)

    def observe(self, texts: Sequence[str]) -> str:
        """One result as it is; of several each under the id of its call."""
        if len(texts) == 1:
            return texts[0]
        return "\n".join(f"[{_identity(index)}]\n{text}" for index, text in enumerate(texts))

    def help(self) -> str:
        tools = json.dumps([schema(tool) for tool in self._tools.values()], ensure_ascii=False)
        example = Action(tool=next(iter(self._tools), "NAME"), args={})
        return (
            f"You may call one or more of these tools a turn:\n{tools}\n"
            f"Answer with one JSON message, arguments as JSON text:\n{self.render(example)}"
        )

    def _action(self, one: Any) -> Action:
        function = one.get("function", one) if isinstance(one, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            raise FormatError("error: a tool call has to hold a function with name and arguments.")
        args = function.get("arguments", {})
        if isinstance(args, str):
            args = decode(args, 0, "the arguments")[0] if args.strip() else {}
        return call(function["name"], args, [*self._tools])


def _calls(value: Any) -> list[Any]:
    """The calls in a decoded value; none when it is some other JSON."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        return value["tool_calls"]
    if isinstance(value, dict):
        return [value] if "function" in value or {"name", "arguments"} <= value.keys() else []
    return value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else []


def _identity(index: int) -> str:
    return f"call_{index}"
