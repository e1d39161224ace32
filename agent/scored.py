"""What scoring reads of a stored trajectory, decoded alone: the facts, who sampled how much, how it ended.

Replays score far more than they look at. A record is mostly numbers that no reward reads, so that prompts and
log-probabilities are cut from the line before it is parsed, sampled ids stay the text that they are stored as (enough
to count and to compare them), and every other unread field is skipped by the parser.

Invariants: :class:`Scored` has the fields of :class:`agent.trajectory.Trajectory` under the same names and with the
same checks (a test compares the two declarations), so that rewards take either and give the same numbers; nothing here
checks a seal, which the store does on the whole line.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from agent.trajectory import Action, End, Key, Outcome, Trajectory, outcome
from sandbox.task import Failure, Status

_PROMPT, _SAMPLED, _LOGPROBS, _TEXT = b'{"prompt":[', b'],"sampled":[', b'],"logprobs":[', b'],"text":"'
"""What stands around the three lists with which a stored turn begins. Quotes within strings are escaped, so that text
cannot look like them."""
_QUOTES = 6
"""Around the three names: the lists hold none."""


@dataclass(frozen=True, slots=True)
class ScoredFacts:
    """The part of :class:`agent.trajectory.Facts` that rewards read."""

    format_ok: bool
    tool_ok: bool
    tree: str | None = None
    changed: bool = False
    attempt: bool = False
    diagnostics: int | None = None
    suppressed: int | None = None
    confidence: float | None = None
    safe: bool | None = None
    tests: Annotated[str | None, Field(pattern="^[01]*$")] = None


@dataclass(frozen=True, slots=True)
class ScoredTurn:
    """The part of :class:`agent.trajectory.Turn` that rewards read."""

    sampled: str
    """The ids as they are stored, separated by commas."""
    text: str
    facts: ScoredFacts
    action: Action | None = None

    @property
    def tokens(self) -> int:
        """How many ids were sampled."""
        return self.sampled.count(",") + 1 if self.sampled else 0


@dataclass(frozen=True, slots=True)
class ScoredVerdict:
    """The part of :class:`sandbox.task.Verdict` that rewards read."""

    status: Status
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """The part of :class:`agent.trajectory.Trajectory` that rewards read, and its digest."""

    task: str
    key: Key
    turns: tuple[ScoredTurn, ...]
    end: End
    failure: Failure | None = None
    base_tree: str = ""
    base_diagnostics: int | None = None
    tests: tuple[str, ...] = ()
    patch: str = ""
    verdict: ScoredVerdict | None = None
    digest: str = ""

    @property
    def outcome(self) -> Outcome:
        """As :attr:`agent.trajectory.Trajectory.outcome`."""
        return outcome(self.end, self.failure, self.patch, self.verdict and self.verdict.status)


Played = Trajectory | Scored
"""An episode as rewards take it: from memory or from a store."""

_read = TypeAdapter(Scored).validate_json


def decode(line: bytes) -> Scored:
    """A stored record. Raises ``ValidationError`` for anything else."""
    return _read(_cut(line))


def _cut(line: bytes) -> bytes:
    """The record without its turns' prompts and log-probabilities, their sampled ids as strings.

    Only lists of numbers are cut, and only where they stand as in a turn. Arguments of a tool that quote a whole turn
    as JSON look the same and are cut alike: no reward can tell, since the turn's text holds them, too.
    """
    kept: list[bytes] = []
    start = 0
    while (at := line.find(_PROMPT, start)) >= 0:
        sampled = line.find(b"]", at + len(_PROMPT))
        logprobs = line.find(b"]", sampled + len(_SAMPLED))
        text = line.find(b"]", logprobs + len(_LOGPROBS))
        lists = line.startswith(_SAMPLED, sampled) and line.startswith(_LOGPROBS, logprobs)
        if lists and line.startswith(_TEXT, text) and line.count(b'"', at, text) == _QUOTES:
            ids = line[sampled + len(_SAMPLED) : logprobs]
            kept += (line[start:at], b'{"sampled":"', ids, b'","text":"')
            start = text + len(_TEXT)
        else:
            kept.append(line[start : at + len(_PROMPT)])
            start = at + len(_PROMPT)
    return b"".join((*kept, line[start:]))
