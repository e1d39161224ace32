"""Turn cost (ours): each turn costs ``weight / horizon``, up to ``weight``. Negative, so it needs ``allow_negative``
or a clamp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.critics.base import Marks, Step
from rewards.facts import Group
from rewards.option import Weight


class TurnCost(Step):
    kind: Literal["turn_cost"] = "turn_cost"
    weight: Weight = 0.1
    horizon: Annotated[int, Field(ge=1)] = 50
    """Turns after which waiting costs no more."""

    def bounds(self) -> tuple[float, float]:
        return -self.weight, 0.0

    def stretch(self) -> float:
        return -self.weight

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn."""
        cost = -self.weight / self.horizon
        lengths = [len(member.facts) for member in group.members]
        return [tuple(cost if turn < self.horizon else 0.0 for turn in range(length)) for length in lengths]
