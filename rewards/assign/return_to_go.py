"""Return-to-go: ``G_t = sum_{k >= t} gamma^(k - t) r_k`` (k counts the turns that have a reward).

Unbiased for gamma = 1; a smaller gamma optimises a shorter-sighted objective and is biased for the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rewards.assign.base import TurnValues, numbers, placed
from rewards.option import Discount, Option


class ReturnToGo(Option):
    kind: Literal["return_to_go"] = "return_to_go"
    biased: ClassVar[bool] = False
    gamma: Discount = 1.0

    def assign(self, rewards: TurnValues) -> list[float | None]:
        """Backwards accumulation."""
        return placed(rewards, accumulate(numbers(rewards), self.gamma))

    def floor(self, stretch: float, top: float) -> float:
        """A discounted sum is a mean of sums over stretches (summation by parts)."""
        return min(0.0, stretch)


def accumulate(rewards: Sequence[float], gamma: float) -> list[float]:
    """Discounted sums from each place to the end, added from the end."""
    made: list[float] = []
    total = 0.0
    for reward in reversed(rewards):
        total = reward + gamma * total
        made.append(total)
    return made[::-1]
