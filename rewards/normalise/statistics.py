"""Sums that every normaliser shares: correctly rounded, and exactly 0 where there is nothing to tell apart.

*Degenerate* (rewards.md, section 5.5) means equal values within a relative tolerance of 1e-6: the advantages are then
exactly 0, not the 0/eps noise of a division by a vanishing standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

EQUAL = 1e-6


def mean(values: Sequence[float]) -> float:
    """Correctly rounded sum over the count; 0.0 for none."""
    return math.fsum(values) / len(values) if values else 0.0


def deviation(values: Sequence[float]) -> float:
    """Unbiased standard deviation (divisor n - 1), as in the GRPO implementations; 0.0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def degenerate(values: Sequence[float]) -> bool:
    """Fewer than two values, or all equal within :data:`EQUAL` of the largest magnitude."""
    if len(values) < 2:
        return True
    low, high = min(values), max(values)
    return high - low <= EQUAL * max(abs(low), abs(high))
