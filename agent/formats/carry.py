"""Whether a model's tokens can carry a format: what is written has to be what is read.

An answer reaches the parser as decoded ids. A tokenizer that drops a tag because it is one of its control tokens, folds
line breaks or changes capitals loses actions without a word; so each tool's canonical call is encoded and decoded once,
at the start, and has to parse back to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.chat import Tokenizer
from agent.errors import FormatError
from agent.formats.format import Format
from agent.tools.describe import parameters
from agent.tools.tool import Tool
from agent.trajectory import Action

SAMPLE = "def f(a):\n    if a == 1:\n        return 'Aa'  # <b>\n\n\treturn None"
"""Indentation, capitals, an empty line, a tab, a tag: what code is made of."""


def check(form: Format, tools: Mapping[str, Tool], tokenizer: Tokenizer) -> None:
    """Refuse a format that the tokenizer loses. Raises ``ValueError`` with one sentence and the way out."""
    for action in _samples(tools.values()):
        text = form.render(action)
        read = tokenizer.decode(tokenizer.encode(text))
        try:
            carried = form.parse(read, False) == form.parse(text, False)
        except FormatError:
            carried = False
        if not carried:
            lost = next((line for line in text.split("\n") if line not in read), text.split("\n")[0])
            raise ValueError(
                f"the model's tokens cannot carry agent.format = '{form.name}': '{lost}' of a call of {action.tool} "
                "does not come back as it was written; choose another format or another model"
            )


def _samples(tools: Iterable[Tool]) -> Iterable[Action]:
    for tool in tools:
        found = parameters(tool)
        yield Action(tool=tool.name, args={name: _value(found["properties"][name]) for name in found["required"]})


def _value(one: Mapping[str, Any]) -> Any:
    if "enum" in one:
        return one["enum"][0]
    samples: dict[str, Any] = {"integer": 3, "boolean": True, "array": [1, 2], "number": 0.5, "object": {}}
    return samples.get(str(one.get("type")), SAMPLE)
