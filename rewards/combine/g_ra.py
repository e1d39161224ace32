"""G-RA, gated reward accumulation (arXiv 2508.10548; rewards.md, section 1.4).

``R = sum_i m_i R_i`` with ``m_i = prod over j of higher priority of 1[R_j >= theta_j]``: a reward counts only when
every reward of higher priority has reached its threshold. The outcome has the highest priority and always counts. Two
channels of one priority do not gate each other.

* ``threshold`` sits between "empty patch" and "tests fail", as in the paper; its value -0.25 and all priorities are
  ours, since the paper's values could not be read.
* ``inclusive``: the paper opens at ``>=``; a public re-implementation opens at ``>``.
* ``granularity``: ``episode`` compares a channel's total with its threshold and masks the whole episode; ``step``
  compares the marks of one turn, with the outcome broadcast, so that a malformed turn forfeits only its own lower
  rewards.

The gate is retrospective: step rewards are masked when the episode has closed. Threshold -inf is D-RA, +inf is
outcome-only, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.combine.channel import Channel, Combined, reaches, summed
from rewards.option import Option, Threshold


class Gated(Option):
    kind: Literal["g_ra"] = "g_ra"
    threshold: Threshold = -0.25
    """The outcome must reach this for step rewards to count."""
    priority: int = 3
    """Of the outcome. Critics of this priority are not gated by it; none may stand above it."""
    inclusive: bool = True
    granularity: Literal["episode", "step"] = "episode"

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """Mask each channel by the outcome and by the channels above it, then add."""
        opened = self.opens(outcome)
        steps = [self._masked(channel, channels, opened) for channel in channels]
        return Combined(outcome, summed(steps, length), opened)

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """Least and greatest return at an outcome level. Any channel may be closed by another, so 0 is always in
        reach."""
        free = [r for r in ranges if self.opens(outcome) or r[0] >= self.priority]
        return outcome + sum(min(0.0, low) for _, low, _ in free), outcome + sum(max(0.0, high) for _, _, high in free)

    def opens(self, outcome: float) -> bool:
        return reaches(outcome, self.threshold, self.inclusive)

    def _masked(self, channel: Channel, channels: Sequence[Channel], opened: bool) -> Sequence[float]:
        if not opened and channel.priority < self.priority:
            return (0.0,) * len(channel.turns)
        above = [other for other in channels if other.priority > channel.priority]
        if self.granularity == "episode":
            keep = all(reaches(other.value, other.threshold, self.inclusive) for other in above)
            return channel.turns if keep else (0.0,) * len(channel.turns)
        marks = zip(*(other.marks for other in above), strict=True) if above else iter([()] * len(channel.turns))
        return [
            reward if all(map(self._passes, above, column)) else 0.0
            for reward, column in zip(channel.turns, marks, strict=True)
        ]

    def _passes(self, channel: Channel, mark: float) -> bool:
        return reaches(mark, channel.threshold, self.inclusive)
