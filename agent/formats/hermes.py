"""Hermes tool calls, as Qwen and Hermes models write them: JSON between tags, several in one answer when wanted.

    <tool_call>
    {"name": "bash", "arguments": {"command": "ls"}}
    </tool_call>

What a call gave comes back between ``<tool_response>`` tags, in the order of the calls. The JSON is read by a decoder,
not up to the next tag, so that an argument may spell the tags; the renderer writes ``</`` as ``<\\/`` inside strings,
which JSON allows, so that other readers of the tags see the same call. A last call whose closing tag is missing counts
when the answer ended by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from agent.errors import FormatError
from agent.formats.format import call, decode, few
from agent.tools.describe import schema
from agent.tools.tool import Tool
from agent.trajectory import Action

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_CLOSE = re.compile(r"\s*</tool_call>")
_CLOSING = re.compile(r"<(\\*)/tool_response>")


class Hermes:
    """The parser and the renderer over one set of tools."""

    name: ClassVar[str] = "hermes"
    parallel: ClassVar[bool] = True

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    def parse(self, text: str, cut: bool) -> tuple[Action, ...]:
        actions: list[Action] = []
        at = text.find(OPEN)
        while at >= 0:
            value, end = self._value(text, at + len(OPEN), cut)
            closed = _CLOSE.match(text, end)
            if closed is None and (cut or text[end:].strip()):
                raise FormatError(f"error: a call is not closed by {CLOSE}.")
            actions.append(self._action(value))
            at = text.find(OPEN, closed.end() if closed else len(text))
        if not actions:
            raise FormatError(
                f"error: no tool call found. Answer with {OPEN} and a JSON object with name and arguments."
            )
        return few(actions)

    def render(self, *actions: Action) -> str:
        return "\n".join(f"{OPEN}\n{_json(action)}\n{CLOSE}" for action in actions)

    def observe(self, texts: Sequence[str]) -> str:
        shown = (_CLOSING.sub(r"<\\\1/tool_response>", text) for text in texts)
        return "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in shown)

    def help(self) -> str:
        tools = "\n".join(json.dumps(schema(tool), ensure_ascii=False) for tool in self._tools.values())
        return (
            f"You may call one or more tools a turn. Their signatures are within <tools></tools>:\n"
            f"<tools>\n{tools}\n</tools>\nWrite each call as a JSON object within {OPEN}{CLOSE}:\n"
            f'{OPEN}\n{{"name": NAME, "arguments": ARGUMENTS}}\n{CLOSE}'
        )

    @staticmethod
    def _value(text: str, start: int, cut: bool) -> tuple[object, int]:
        try:
            return decode(text, start, "a tool call")
        except FormatError:
            if cut and CLOSE not in text[start:]:
                raise FormatError("error: the answer was too long and its call was cut. Be shorter.") from None
            raise

    def _action(self, value: object) -> Action:
        if not isinstance(value, dict) or "name" not in value:
            raise FormatError("error: a tool call has to be a JSON object with name and arguments.")
        return call(value["name"], value.get("arguments", {}), [*self._tools])


def _json(action: Action) -> str:
    return json.dumps({"name": action.tool, "arguments": action.args}, ensure_ascii=False).replace("</", "<\\/")
