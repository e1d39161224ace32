"""Leave one out (RLOO): ``A_i = R_i - mean of the other returns``, which equals ``n/(n-1) (R_i - mean)``. Unbiased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.normalise.statistics import mean
from rewards.option import Option


class LeaveOneOut(Option):
    kind: Literal["leave_one_out"] = "leave_one_out"

    def trajectories(self, returns: Sequence[float]) -> list[float]:
        """One advantage per return; needs two returns or more."""
        middle, n = mean(returns), len(returns)
        return [(value - middle) * n / (n - 1) for value in returns]

    def least_scale(self, width: float) -> float:
        """The least factor by which a difference of two returns is multiplied, where all returns span ``width``."""
        return 1.0
