"""Difficulty only ("VeRPO+Diff"; rewards.md, sections 2.2 and 2.6): ``R = sum_j exp(-alpha rho_j) p_j / |U|``.

The limit of VeRPO for a wide kernel: rare passes pay more, but many easy tests still dominate by count. alpha = 2.0
is from one secondary source.
"""

from __future__ import annotations

import math
from typing import Literal

from rewards.facts import Grades, Suite
from rewards.kernels import passes, weighted
from rewards.option import Option, Weight


class Difficulty(Option):
    kind: Literal["difficulty"] = "difficulty"
    alpha: Weight = 2.0

    def values(self, grades: Grades, suite: Suite | None) -> list[float]:
        """Per attempt, in [0, 1]."""
        if not grades.names:
            return [0.0] * len(grades.rows)
        counts, attempts, tests = passes(grades.rows), len(grades.rows), len(grades.names)
        weights = {count: math.exp(-self.alpha * count / attempts) / tests for count in set(counts)}
        return weighted(grades.rows, counts, weights)

    def top(self) -> float:
        """Greatest possible value."""
        return 1.0
