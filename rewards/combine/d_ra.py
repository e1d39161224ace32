"""D-RA, direct reward accumulation (arXiv 2508.10548; rewards.md, section 1.5): ``R = R_high + sum_t r_low``.

The baseline of the G-RA paper: the same rewards without a gate. Its known failure is that easy step rewards are
collected and the episode is never submitted: total reward rises while the outcome falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.combine.channel import Channel, Combined, summed
from rewards.option import Option


class DirectAccumulation(Option):
    kind: Literal["d_ra"] = "d_ra"

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """Add everything."""
        return Combined(outcome, summed([one.turns for one in channels], length), True)

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """Least and greatest return at an outcome level; ``ranges`` holds (priority, least, greatest) per critic."""
        return outcome + sum(low for _, low, _ in ranges), outcome + sum(high for _, _, high in ranges)

    def opens(self, outcome: float) -> bool:
        return True
