"""Log-sigmoid AND (arXiv 2402.00742, from memory; rewards.md, section 3.10): ``R = sum_i log sigmoid(k_i (r_i -
ref_i))``.

The log-probability that all channels are good: each saturates above its reference, so that hacking one of them stops
paying; a smooth substitute for hard priorities. The paper's reference is a quantile of the base policy's samples per
prompt; ours are constants, and so is the sharpness k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from rewards.combine.channel import Channel, Combined
from rewards.option import Finite, Option, Positive


class LogSigmoid(Option):
    kind: Literal["log_sigmoid"] = "log_sigmoid"
    reference: Finite = 0.0
    """Of the outcome's level."""
    sharpness: Positive = 2.0
    critic_reference: Finite = 0.0
    """Of each critic's total."""
    critic_sharpness: Positive = 1.0

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """The outcome's term at the end, each critic's term on the last turn."""
        terms = math.fsum(self._critic(channel.value) for channel in channels)
        steps = (*(0.0,) * (length - 1), terms) if length else ()
        return Combined(self._outcome(outcome) + (0.0 if length else terms), steps, True)

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """Least and greatest return at an outcome level."""
        base = self._outcome(outcome)
        return (
            base + sum(self._critic(low) for _, low, _ in ranges),
            base + sum(self._critic(high) for _, _, high in ranges),
        )

    def opens(self, outcome: float) -> bool:
        return True

    def _outcome(self, level: float) -> float:
        return _log_sigmoid(self.sharpness * (level - self.reference))

    def _critic(self, value: float) -> float:
        return _log_sigmoid(self.critic_sharpness * (value - self.critic_reference))


def _log_sigmoid(x: float) -> float:
    """Stable on both sides."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))
