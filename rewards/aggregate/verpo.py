"""VeRPO (arXiv 2601.03525; rewards.md, section 2.2): difficulty times density.

    rho_j = passes of test j / M_x                        (3)   M_x: attempts of all valid trajectories of the group
    N_j   = sum_j' exp(-(rho_j - rho_j')^2 / (2 sigma^2))    (7)
    w_j   = exp(-alpha rho_j) / (N_j + delta)               (9)
    R     = sum_j w_j p_j                                  (10)

Real suites hold many easy tests near rho = 1, whose number alone would dominate the baseline (cardinality bias);
dividing by the kernel density cancels the number. R is not bounded by 1. alpha = 2.0 comes from one secondary source;
sigma = 0.1 and delta = 1e-6 are ours, since the paper's values could not be read. No clamping and no normalisation of
the weights: none is mentioned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from rewards.facts import Grades, Suite
from rewards.kernels import density, passes, weighted
from rewards.option import Option, Positive, Weight


class Verpo(Option):
    kind: Literal["verpo"] = "verpo"
    alpha: Weight = 2.0
    """How much more a rarely passed test pays."""
    sigma: Positive = 0.1
    """Width of the density kernel, in pass rate."""
    delta: Positive = 1e-6

    def values(self, grades: Grades, suite: Suite | None) -> list[float]:
        """Per attempt, in [0, number of distinct pass rates]."""
        if not grades.names:
            return [0.0] * len(grades.rows)
        counts = passes(grades.rows)
        return weighted(grades.rows, counts, self.weights(counts, len(grades.rows)))

    def weights(self, counts: Sequence[int], attempts: int) -> dict[int, float]:
        """w' by pass count."""
        histogram = Counter(counts)
        crowd = density(histogram, attempts, self.sigma)
        return {k: math.exp(-self.alpha * k / attempts) / (crowd[k] + self.delta) for k in histogram}

    def top(self) -> float:
        """Nothing bounds it before a group is seen."""
        return math.inf
