"""The context window of one episode: exact deltas, a token budget, and caps on what is added.

The window only grows: its end is the end of the episode (``End.TOKENS``). A policy that rewrites history instead
would start a new segment by marking its turn ``fork`` with the whole context as ``prompt``; :class:`Window` is where
it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import Stop
from agent.trajectory import End


class Window:
    """Everything that the policy has seen, in order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: list[int] = []

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    def extend(self, ids: Sequence[int]) -> None:
        self._ids.extend(ids)

    def room(self, wanted: int) -> int:
        """How many tokens the next turn may sample. Raises ``Stop(End.TOKENS)`` when none is left."""
        left = self._limit - len(self._ids)
        if left < 1:
            raise Stop(End.TOKENS, f"the context holds {len(self._ids)} of {self._limit} tokens")
        return min(wanted, left)


def cap(text: str, limit: int) -> str:
    """At most about ``limit`` characters: head and tail, with the count of what was cut between them."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[{len(text) - limit} characters cut]\n{text[len(text) - tail :]}"


def fence(text: str, info: str = "") -> str:
    """``text`` as a fenced block that it cannot break out of: the fence is longer than any run of backticks in it."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{info}\n{text}\n{ticks}"
