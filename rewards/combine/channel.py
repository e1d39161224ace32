"""A step reward of one trajectory on its way into a combination, and what a combination makes of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import add

TOLERANCE = 1e-9
"""A share such as 0.1 * 5/10 must reach a threshold of 0.05 whatever the rounding."""


@dataclass(frozen=True)
class Channel:
    """One critic's rewards for one trajectory."""

    name: str
    priority: int
    threshold: float
    marks: tuple[float, ...]
    """Per turn, on the scale of ``threshold``."""
    turns: tuple[float, ...]
    """Per turn, as they enter the return. For a share: ``marks / T``, so that the sum does not grow with the turns."""

    @cached_property
    def value(self) -> float:
        """The trajectory's total, correctly rounded and so independent of the order of summation."""
        return math.fsum(self.turns)


@dataclass(frozen=True, slots=True)
class Combined:
    """The composed rewards of one trajectory; the return is their sum."""

    outcome: float
    """What the end of the episode pays."""
    steps: tuple[float, ...]
    """What each turn pays, after gating."""
    open: bool
    """The outcome let step rewards count."""

    @property
    def total(self) -> float:
        return math.fsum((self.outcome, *self.steps))


def reaches(value: float, threshold: float, inclusive: bool) -> bool:
    """``value >= threshold``, or ``>`` when not inclusive, up to :data:`TOLERANCE`."""
    return value >= threshold - TOLERANCE if inclusive else value > threshold + TOLERANCE


def summed(rows: Sequence[Sequence[float]], length: int) -> tuple[float, ...]:
    """Per turn, the correctly rounded sum over channels; ``rows`` holds what each channel pays at each turn."""
    if not rows:
        return (0.0,) * length
    if len(rows) == 2:  # The float sum of two numbers is correctly rounded as it is.
        return tuple(map(add, *rows))
    return tuple(map(math.fsum, zip(*rows, strict=True)))


def clamped(combined: Combined, ceiling: float) -> Combined:
    """The same with the sum of its steps brought into [0, ``ceiling``], each step scaled alike."""
    total = math.fsum(combined.steps)
    kept = min(max(total, 0.0), ceiling)
    if kept == total:
        return combined
    steps = tuple(step * (kept / total) for step in combined.steps)
    return Combined(combined.outcome, steps, combined.open)
