"""Action formats, one a module: how a model writes an action, as a parser and a renderer.

Invariants: ``parse(render(action)) == action``; any text gives an action or a ``FormatError`` with a helpful sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.formats.fenced import Fenced
from agent.formats.format import Format
from agent.tools.tool import Tool

FORMATS: dict[str, Callable[[Mapping[str, Tool]], Format]] = {"fenced": Fenced}


def make(name: str, tools: Mapping[str, Tool]) -> Format:
    """The format of that name over these tools."""
    return FORMATS[name](tools)
