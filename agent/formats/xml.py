"""XML function calls, as OpenHands and R2E-Gym write them for models without tool calls of their own.

    <function=edit>
    <parameter=command>view</parameter>
    <parameter=path>
    a/b.py
    </parameter>
    </function>

A value is text as it stands (one line break after the opening tag and one before the closing tag do not count); an
argument that is no text is written as JSON. A closing tag inside a value carries a backslash after its ``<``, more if
it has some already, so that every text can be written. Exactly one call is expected. A missing ``</function>`` counts
as there when the answer ended by itself: it is a usual stop sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from agent.errors import FormatError
from agent.formats.format import call, decode
from agent.tools.describe import arguments, is_text, parameters
from agent.tools.tool import Tool
from agent.trajectory import Action

_OPEN = re.compile(r"<function=([^>\s]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]+)>(.*?)</parameter>", re.DOTALL)
_CLOSE = re.compile(r"\s*</function>")
_ESCAPED = re.compile(r"<(\\*)/(parameter|function)>")
_UNESCAPED = re.compile(r"<\\(\\*)/(parameter|function)>")


class Xml:
    """The parser and the renderer over one set of tools."""

    name: ClassVar[str] = "xml"
    parallel: ClassVar[bool] = False

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._texts = {
            (name, key)
            for name, tool in tools.items()
            for key, one in parameters(tool)["properties"].items()
            if is_text(one)
        }

    def parse(self, text: str, cut: bool) -> tuple[Action, ...]:
        opening = _OPEN.search(text)
        if opening is None:
            raise FormatError("error: no function call found. Answer with one <function=NAME> ... </function>.")
        args, end = self._arguments(text, opening)
        closed = _CLOSE.match(text, end)
        if closed is None and cut:
            raise FormatError("error: the answer was too long and its call was cut. Be shorter.")
        if closed is None and text[end:].strip():
            raise FormatError("error: a call holds <parameter=NAME>VALUE</parameter> parts and ends with </function>.")
        if closed is not None and _OPEN.search(text, closed.end()):
            raise FormatError("error: several function calls found. Answer with exactly one.")
        return (call(opening[1], args, [*self._tools]),)

    def render(self, *actions: Action) -> str:
        (action,) = actions
        parts = [
            f"<parameter={key}>\n{self._written(action.tool, key, value)}\n</parameter>"
            for key, value in action.args.items()
        ]
        return "\n".join([f"<function={action.tool}>", *parts, "</function>"])

    def observe(self, texts: Sequence[str]) -> str:
        return "\n".join(texts)

    def help(self) -> str:
        tools = "\n".join(f"* {tool.name}({arguments(tool)}): {tool.help}" for tool in self._tools.values())
        return (
            f"Call exactly one function a turn:\n{tools}\nWrite it so, one parameter after the other:\n"
            "<function=NAME>\n<parameter=ARGUMENT>VALUE</parameter>\n</function>"
        )

    def _arguments(self, text: str, opening: re.Match[str]) -> tuple[dict[str, Any], int]:
        args: dict[str, Any] = {}
        at = opening.end()
        while part := _PARAMETER.match(text, at):
            key, at = part[1], part.end()
            if key in args:
                raise FormatError(f"error: the parameter {key} is given twice.")
            args[key] = self._read(opening[1], key, _UNESCAPED.sub(r"<\1/\2>", _unframed(part[2])))
        return args, at

    def _read(self, tool: str, key: str, value: str) -> Any:
        if (tool, key) in self._texts:
            return value
        try:
            found, end = decode(value, 0, f"the parameter {key}")
        except FormatError:
            return value  # the tool's own check says better what it wants there
        return value if value[end:].strip() else found

    def _written(self, tool: str, key: str, value: Any) -> str:
        text = value if (tool, key) in self._texts and isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return _ESCAPED.sub(r"<\\\1/\2>", text)


def _unframed(value: str) -> str:
    return value.removeprefix("\n").removesuffix("\n")
