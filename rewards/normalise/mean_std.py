"""Mean and standard deviation (GRPO): ``A_i = (R_i - mean) / (std + eps)`` with the unbiased std.

Biased: the division weighs a prompt by the inverse of its spread, so that nearly solved and nearly hopeless prompts
count more. ``eps`` = 1e-6 as in verl.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from rewards.normalise.base import TurnReturns, View, pooled
from rewards.normalise.statistics import deviation, mean
from rewards.option import Option, Positive


class MeanStd(Option):
    kind: Literal["mean_std"] = "mean_std"
    biased: ClassVar[bool] = True
    eps: Positive = 1e-6

    def trajectories(self, returns: Sequence[float]) -> list[float]:
        """One advantage per return."""
        middle, scale = mean(returns), deviation(returns) + self.eps
        return [(value - middle) / scale for value in returns]

    def least_scale(self, width: float) -> float:
        """The least factor by which a difference of two returns is multiplied: the std is at most ``width /
        sqrt(2)``."""
        return 1.0 / (width / math.sqrt(2) + self.eps)

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Over all turns of all members that have a return (iStar's A^S)."""
        found = pooled(values)
        middle, scale = mean(found), deviation(found) + self.eps
        return [[0.0 if value is None else (value - middle) / scale for value in row] for row in values]

    def gain(self) -> float:
        return math.inf
