"""Prompts: Jinja templates in TOML, next to their config.

A template sees a handful of names and no object of ours, in Jinja's sandbox; one that it does not know is refused when
the config is read, not in the middle of a run. What a task brings, its statement and its source, is *data*: a template
can place it, fenced, and nothing else; it is never read as a template, and its text cannot end the fence.

    compact, full        shipped in ``agent/prompts/``
    my_prompt.toml       a file with ``user``, and ``system`` and ``summary`` when wanted; its text goes into the config
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

from agent.policy import Message
from agent.text import fence

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

SHIPPED = ("compact", "full")
_FOLDER = Path(__file__).parent / "prompts"
VARIABLES = {
    "statement": "the problem statement, fenced; statement('text') gives the fence an info string",
    "source": "source of the function that the task names, fenced in the same way; false when it names none",
    "repo": "the repository's name",
    "focus": "path and name of that function",
    "workspace": "where the repository lies",
    "manual": "how an action is written, and every tool",
    "tools": "the tools' names",
    "format": "the action format's name",
}


class Prompt(BaseModel):
    """The templates of one kind of prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    """The first message, after the system's."""
    system: str = ""
    """The system message; none when it is empty."""
    summary: str = "Before we go on: sum up in a few sentences what you found, changed and still have to do."
    """What the policy is asked when its window is full and ``overflow`` is ``summarise``."""

    @model_validator(mode="after")
    def _known(self) -> Prompt:
        for part in ("user", "system", "summary"):
            _check(part, getattr(self, part))
        return self


class Data:
    """A text of the task inside a template: fenced wherever it is placed, false when it is empty."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, info: str = "") -> str:
        return fence(self._text, info) if self._text else ""

    def __str__(self) -> str:
        return self()

    def __bool__(self) -> bool:
        return bool(self._text)


def resolve(value: Any) -> Any:
    """A prompt as a config may give it: a shipped name stays, a path becomes the file's content. Raises
    ``ValueError`` with one sentence.
    """
    if not isinstance(value, str) or value in SHIPPED:
        return value
    if not value.endswith(".toml"):
        raise ValueError(f"there is no prompt '{value}'; there are: {', '.join(SHIPPED)}, or the path of a .toml file")
    try:
        return tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the prompt {value} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the prompt {value} is not valid TOML: {error}") from None


def load(prompt: str | Prompt) -> Prompt:
    """The templates of a prompt, by a shipped name or as they are."""
    return _shipped(prompt) if isinstance(prompt, str) else prompt


def messages(prompt: Prompt, values: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages that open an episode. ``values``: one for each of :data:`VARIABLES`."""
    system = (Message(role="system", text=_render(prompt.system, values)),) if prompt.system else ()
    return (*system, Message(role="user", text=_render(prompt.user, values)))


@cache
def _shipped(name: str) -> Prompt:
    return Prompt.model_validate(tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")))


def _render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().from_string(template).render(values)


def _check(part: str, template: str) -> None:
    from jinja2 import TemplateSyntaxError, meta

    try:
        unknown = meta.find_undeclared_variables(_environment().parse(template)) - VARIABLES.keys()
    except TemplateSyntaxError as error:
        raise ValueError(f"the template '{part}' is broken in line {error.lineno}: {error.message}") from None
    if unknown:
        raise ValueError(
            f"the template '{part}' uses the unknown variable '{min(unknown)}'; there are: {', '.join(VARIABLES)}"
        )


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
