"""Numbers of mean 0 and standard deviation 1 over all of them (divisor n - 1), as PPO and REINFORCE++ want them."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

EPSILON = 1e-8
"""Added to the variance, as verl does."""
EQUAL = 1e-6
"""Values that differ by less, relative to the largest, are equal: all become 0 instead of amplified noise."""


def whitened(values: Sequence[float]) -> list[float]:
    """One number each; 0.0 for a single one and where all are equal."""
    if len(values) < 2 or max(values) - min(values) <= EQUAL * max(map(abs, values)):
        return [0.0] * len(values)
    middle = fsum(values) / len(values)
    scale = sqrt(fsum((value - middle) ** 2 for value in values) / (len(values) - 1) + EPSILON)
    return [(value - middle) / scale for value in values]
