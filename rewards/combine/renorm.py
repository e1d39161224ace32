"""ReNorm shift (PPR, arXiv 2509.25598; rewards.md, section 3.2): ``R = p + o - 1`` with both in [0, 1].

A soft gate, a sibling of G-RA that shifts instead of zeroing: in [0, 1] when the outcome is best, in [-1, 0] when it
is worst. The formula is recollected with low confidence (the paper's could not be read). ``o`` is the outcome's level
mapped from [``low``, ``high``] to [0, 1]; ``p`` is the sum of the critics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.combine.channel import Channel, Combined, summed
from rewards.option import Finite, Option


class Renorm(Option):
    kind: Literal["renorm"] = "renorm"
    low: Finite = -1.0
    """Outcome level that maps to 0."""
    high: Finite = 1.0
    """Outcome level that maps to 1."""

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """Shift the outcome by 1 and add the step rewards."""
        return Combined(self._unit(outcome) - 1.0, summed([one.turns for one in channels], length), True)

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """Least and greatest return at an outcome level."""
        base = self._unit(outcome) - 1.0
        return base + sum(low for _, low, _ in ranges), base + sum(high for _, _, high in ranges)

    def opens(self, outcome: float) -> bool:
        return True

    def _unit(self, outcome: float) -> float:
        return (outcome - self.low) / (self.high - self.low)
