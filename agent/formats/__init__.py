"""Action formats, one a module: how a model writes actions, as a parser and a renderer.

    fenced   one fenced block (small models)         hermes   JSON in <tool_call> tags, several at once
    xml      one <function=...> call                 openai   a JSON message with tool_calls, several at once

Invariants: ``parse(render(*actions)) == actions``; any text gives actions or a ``FormatError`` with a helpful sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from agent.formats.fenced import Fenced
from agent.formats.format import Format
from agent.formats.hermes import Hermes
from agent.formats.openai import OpenAI
from agent.formats.xml import Xml
from agent.tools.tool import Tool

Name = Literal["fenced", "xml", "hermes", "openai"]
FORMATS: dict[str, Callable[[Mapping[str, Tool]], Format]] = {
    "fenced": Fenced,
    "xml": Xml,
    "hermes": Hermes,
    "openai": OpenAI,
}


def make(name: str, tools: Mapping[str, Tool]) -> Format:
    """The format of that name over these tools."""
    return FORMATS[name](tools)
