"""Mean only: ``A_i = R_i - mean(R)`` (VeRPO's F_norm = 1, Dr.GRPO).

The baseline includes the sample itself, which shrinks the expected gradient by (n - 1)/n and changes nothing else: no
difficulty bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rewards.normalise.base import TurnReturns, View, pooled
from rewards.normalise.statistics import mean
from rewards.option import Option


class MeanOnly(Option):
    kind: Literal["mean_only"] = "mean_only"
    biased: ClassVar[bool] = True

    def trajectories(self, returns: Sequence[float]) -> list[float]:
        """One advantage per return."""
        middle = mean(returns)
        return [value - middle for value in returns]

    def least_scale(self, width: float) -> float:
        """The least factor by which a difference of two returns is multiplied, where all returns span ``width``."""
        return 1.0

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """VeRPO, equation 12: minus the mean over all turns of all members that have a return."""
        middle = mean(pooled(values))
        return [[0.0 if value is None else value - middle for value in row] for row in values]

    def gain(self) -> float:
        return 1.0
