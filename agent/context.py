"""The context window of one episode: exact deltas, a token budget, and what happens at its end.

    stop        the window only grows; when no room is left the episode ends (``End.TOKENS``)
    drop        old observations are replaced by a note, the oldest first, until a quarter of the window is free
    summarise   the policy sums up (a turn of its own), and goes on from the task and its summary

The last two rewrite history: the next turn *forks*, its ``prompt`` is the whole new context. Sampled tokens that are
still there are part of that prompt, as they were sampled, so that they are trained once, in the segment that sampled
them (invariant 1).
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import Stop
from agent.policy import Message, Policy
from agent.text import fence
from agent.trajectory import Action, End, Turn

GONE = "[dropped to make room]"
SUMMARISE = Action(tool="summarise")
"""The action of a turn that sums up; no tool may be called so."""


class Window:
    """Everything that the policy sees, in order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: list[int] = []

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    def extend(self, ids: Sequence[int]) -> None:
        self._ids.extend(ids)

    def restart(self, ids: Sequence[int]) -> None:
        """A fork: the whole context anew."""
        self._ids = list(ids)

    def room(self, wanted: int) -> int:
        """How many tokens the next turn may sample. Raises ``Stop(End.TOKENS)`` when none is left."""
        left = self._limit - len(self._ids)
        if left < 1:
            raise Stop(End.TOKENS, f"the context holds {len(self._ids)} of {self._limit} tokens")
        return min(wanted, left)

    def holds(self, more: int) -> bool:
        """Whether ``more`` tokens fit."""
        return len(self._ids) + more <= self._limit


def dropped(policy: Policy, opening: Sequence[int], turns: Sequence[Turn], limit: int, wanted: int) -> tuple[int, ...]:
    """The context before the next turn with as few old observations dropped as leave room for ``wanted`` tokens and a
    quarter of ``limit``; with all but the last dropped where even that is not enough.

    ``opening``: the episode's first context. Every sampled id stays as it is; a message that stays has the same ids as
    before, because a message is always encoded as a whole.
    """
    kept, stubs = _replies(policy, turns, None), _replies(policy, turns, GONE)
    saved = [max(0, len(old) - len(stub)) for old, stub in zip(kept, stubs, strict=True)]
    size = len(opening) + sum(len(turn.sampled) for turn in turns) + sum(map(len, kept))
    replies = list(kept)
    for index in range(len(turns) - 1):
        if size + max(wanted, limit // 4) <= limit:
            break
        if saved[index]:
            replies[index] = stubs[index]
            size -= saved[index]
    return (*opening, *(i for turn, reply in zip(turns, replies, strict=True) for i in (*turn.sampled, *reply)))


def resumed(policy: Policy, messages: Sequence[Message], summary: str, observation: str) -> tuple[int, ...]:
    """The context of a policy that goes on from its own summary: the first messages, what it wrote, and the last
    observation, which it has not answered yet."""
    *before, last = messages
    text = f"{last.text}\nSo far, in your own words:\n{fence(summary.strip())}\nWhat you saw last:\n{observation}"
    return policy.open([*before, Message(role="user", text=text)])


def _replies(policy: Policy, turns: Sequence[Turn], instead: str | None) -> list[tuple[int, ...]]:
    texts = (turn.observation if instead is None else instead for turn in turns)
    return [policy.reply([Message(role="user", text=text)], turn.cut) for turn, text in zip(turns, texts, strict=True)]
