"""The format protocol, and the payload that three of the four formats share: JSON from a stranger."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from agent.errors import FormatError
from agent.trajectory import Action

CALLS = 8
"""Actions of one answer at most, where a format allows several."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Format(Protocol):
    """One way of writing actions."""

    name: ClassVar[str]
    parallel: ClassVar[bool]
    """An answer may hold several actions; they run in order."""

    def parse(self, text: str, cut: bool) -> tuple[Action, ...]:
        """The actions of an answer, exactly one where the format is not parallel. ``cut``: the answer ended by length.
        Raises ``FormatError``, whose message is the observation.
        """
        ...

    def render(self, *actions: Action) -> str:
        """The canonical text of actions: what a scripted policy answers and the warm start learns."""
        ...

    def observe(self, texts: Sequence[str]) -> str:
        """The message that carries back what the actions of one answer gave, one text an action, in order."""
        ...

    def help(self) -> str:
        """For the system prompt: how an action is written, and each tool."""
        ...


def decode(text: str, start: int, what: str) -> tuple[Any, int]:
    """The JSON value that begins at ``start`` (white space skipped), and where it ends. ``what`` names it in the
    ``FormatError`` of a text that is not JSON. Lone surrogates, which no encoder takes, become U+FFFD.
    """
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    try:
        value, end = _DECODER.raw_decode(text, start)
        return _whole(value), end
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or ("too deep" if isinstance(error, RecursionError) else str(error))
        raise FormatError(f"error: {what} is not valid JSON: {reason}.") from None


def call(name: Any, args: Any, known: Sequence[str]) -> Action:
    """An action from the two halves of a call. Raises ``FormatError``."""
    if not isinstance(name, str) or name not in known:
        said = f" {name}" if isinstance(name, str) and len(name) < 40 else ""
        raise FormatError(f"error: there is no tool{said}; there are: {', '.join(known)}.")
    if not isinstance(args, dict):
        raise FormatError(f"error: the arguments of {name} have to be a JSON object.")
    return Action(tool=name, args=args)


def few(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Refuse more calls than :data:`CALLS`."""
    if len(actions) > CALLS:
        raise FormatError(f"error: {len(actions)} calls in one answer; at most {CALLS} are run.")
    return tuple(actions)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _whole(inner) for key, inner in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value
