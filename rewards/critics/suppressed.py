"""Diagnostics suppressed (ours): a penalty for silencing the checker instead of fixing the code.

    r_t = -weight * (c_t - c_{t-1}),   c_t = min(1, (suppressed_t - base) / cap)

It telescopes to ``-weight * c_T``: what counts is what the final tree silences. ``base`` is the least count that any
member of the group has shown, since the group starts from one tree and its own count is not stored. Turns that were
not measured carry the count forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.critics.base import Marks, Step
from rewards.errors import RewardError
from rewards.facts import Group, Member
from rewards.option import Weight


class Suppressed(Step):
    kind: Literal["suppressed"] = "suppressed"
    weight: Weight = 0.2
    cap: Annotated[int, Field(ge=1)] = 3
    """New suppressions that cost the whole weight."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"diagnostics"})

    def bounds(self) -> tuple[float, float]:
        return -self.weight, 0.0

    def stretch(self) -> float:
        return -self.weight

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn. Raises :class:`RewardError` where a changed tree was not measured."""
        counts = [_counts(member) for member in group.members]
        base = min((count for row in counts for count in row if count is not None), default=0)
        return [self._marks(row, base) for row in counts]

    def _marks(self, counts: Sequence[int | None], base: int) -> Marks:
        made: list[float] = []
        before = 0.0
        for count in counts:
            now = before if count is None else min(1.0, (count - base) / self.cap)
            made.append(self.weight * (before - now))
            before = now
        return tuple(made)


def _counts(member: Member) -> list[int | None]:
    for index, facts in enumerate(member.facts):
        if facts.changed and facts.suppressed is None:
            raise RewardError(f"critic 'suppressed' needs the suppressed diagnostics of {member.name}, turn {index}")
    return [facts.suppressed for facts in member.facts]
