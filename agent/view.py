"""A stored trajectory for people: ``dojo view RUN [KEY]``.

A run's episodes are listed, one a line; of one episode, each turn is shown with what was sampled, what was
observed and the facts. Terminal control characters in what a model or a program wrote are shown, never obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from agent.trajectory import Outcome, Trajectory, Turn

_COLOURS = {
    Outcome.TESTS_PASS: "green",
    Outcome.TESTS_FAIL: "yellow",
    Outcome.EMPTY_PATCH: "magenta",
    Outcome.NO_SUBMIT: "red",
    Outcome.INFRA: "bright_black",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show(trajectory: Trajectory, console: Console | None = None) -> None:
    """Print one episode in full."""
    (console or Console()).print(episode(trajectory))


def listing(trajectories: Iterable[Trajectory]) -> Table:
    """One line an episode."""
    table = Table("key", "task", "outcome", "end", "turns", "tokens", "policy", box=None)
    for t in trajectories:
        sampled = sum(len(turn.sampled) for turn in t.turns)
        cells = (str(t.key), t.task, _outcome(t), t.end.value, str(len(t.turns)), str(sampled), t.policy)
        table.add_row(*(cell if isinstance(cell, Text) else Text(visible(cell)) for cell in cells))
    return table


def episode(trajectory: Trajectory) -> Group:
    """One episode in full."""
    parts: list[RenderableType] = [_head(trajectory)]
    parts += [_turn(index, turn) for index, turn in enumerate(trajectory.turns)]
    if trajectory.patch:
        parts.append(Panel(Syntax(visible(trajectory.patch), "diff", background_color="default"), title="patch"))
    return Group(*parts)


def visible(text: str) -> str:
    """``text`` with control characters other than tab and newline written as ``\\xNN``."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _outcome(trajectory: Trajectory) -> Text:
    return Text(trajectory.outcome.value, style=_COLOURS[trajectory.outcome])


def _head(t: Trajectory) -> Text:
    head = Text.assemble((t.task, "bold"), f"  {t.key}  {visible(t.policy)}  ", _outcome(t), f"  ended: {t.end.value}")
    if t.detail:
        head.append(f"  ({visible(t.detail)})")
    if t.verdict is not None and t.verdict.detail:
        head.append(f"\n{visible(t.verdict.detail)}")
    return head


def _turn(index: int, turn: Turn) -> Panel:
    body = Text(visible(turn.text))
    if turn.observation:
        body.append("\n" + visible(turn.observation), style="cyan")
    tool = " + ".join(action.tool for action in (turn.action, *turn.more) if action) or "no action"
    title = Text(f"turn {index}: {tool}", style="" if turn.facts.tool_ok else "red")
    return Panel(body, title=title, title_align="left", subtitle=Text(_facts(turn), style="dim"), subtitle_align="left")


def _facts(turn: Turn) -> str:
    facts = turn.facts
    said = [f"{len(turn.prompt)}+{len(turn.sampled)} tokens"]
    said += ["history rewritten"] if turn.fork else []
    said += ["cut"] if turn.cut else []
    said += ["no loss"] if turn.masked else []
    said += [f"exit {facts.exit_code}"] if facts.exit_code is not None else []
    said += ["new tree"] if facts.attempt else ["changed"] if facts.changed else []
    said += [f"{facts.diagnostics} errors"] if facts.diagnostics is not None else []
    said += [f"confidence {facts.confidence:g}"] if facts.confidence is not None else []
    said += ["safe" if facts.safe else "not safe"] if facts.safe is not None else []
    said += [f"{facts.tests.count('1')} of {len(facts.tests)} hidden tests"] if facts.tests is not None else []
    return ", ".join(said)
