"""Leave one out (RLOO): ``A_i = R_i - mean of the other returns``, which equals ``n/(n-1) (R_i - mean)``. Unbiased."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from rewards.normalise.base import TurnReturns, View, pooled
from rewards.normalise.statistics import mean
from rewards.option import Option


class LeaveOneOut(Option):
    kind: Literal["leave_one_out"] = "leave_one_out"
    biased: ClassVar[bool] = False

    def trajectories(self, returns: Sequence[float]) -> list[float]:
        """One advantage per return; needs two returns or more."""
        middle, n = mean(returns), len(returns)
        return [(value - middle) * n / (n - 1) for value in returns]

    def least_scale(self, width: float) -> float:
        """The least factor by which a difference of two returns is multiplied, where all returns span ``width``."""
        return 1.0

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Minus the mean over all turns of the *other* members, which no action of this one can move."""
        sums = [math.fsum(pooled([row])) for row in values]
        counts = [len(pooled([row])) for row in values]
        total, count = math.fsum(sums), sum(counts)
        made: list[list[float]] = []
        for row, own, mine in zip(values, sums, counts, strict=True):
            middle = (total - own) / (count - mine) if count > mine else 0.0
            made.append([0.0 if value is None else value - middle for value in row])
        return made

    def gain(self) -> float:
        return 2.0
