"""The test vector as a critic: hidden tests run on each attempt (shadow grading), made one number by an aggregation.

As a *turn source* every attempt has its value and other turns have none (rewards.md, section 5.2). As a critic *in
the return* only the last attempt pays, since it is what would be graded: partial success is not collected twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.aggregate.difficulty import Difficulty
from rewards.aggregate.f2p import FixedUnbroken
from rewards.aggregate.pass_rate import PassRate
from rewards.aggregate.ssl import Tiers
from rewards.aggregate.verpo import Verpo
from rewards.critics.base import Marks, Step
from rewards.facts import Group
from rewards.option import Weight

Aggregation = Annotated[PassRate | Verpo | Difficulty | Tiers | FixedUnbroken, Field(discriminator="kind")]


class TestVector(Step):
    kind: Literal["tests"] = "tests"
    weight: Weight = 1.0
    aggregation: Aggregation = Verpo()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"tests", "suites"} if isinstance(self.aggregation, FixedUnbroken) else {"tests"})

    def bounds(self) -> tuple[float, float]:
        return 0.0, self.weight * self.aggregation.top() if self.weight else 0.0

    def attempts(self, group: Group) -> list[list[float | None]]:
        """Per member and turn: the value of an attempt, ``None`` for other turns."""
        values: list[list[float | None]] = [[None] * len(member.facts) for member in group.members]
        grades = group.grades
        for (index, turn), value in zip(grades.owner, self.aggregation.values(grades, group.suite), strict=True):
            values[index][turn] = self.weight * value
        return values

    def marks(self, group: Group) -> Sequence[Marks]:
        """The last attempt's value on its turn."""
        made: list[Marks] = []
        for member, values in zip(group.members, self.attempts(group), strict=True):
            last = member.attempts[-1] if member.attempts else -1
            made.append(tuple((value or 0.0) if turn == last else 0.0 for turn, value in enumerate(values)))
        return made
