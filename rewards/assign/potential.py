"""Potential difference (after Ng, Harada, Russell 1999): the turn's value is a potential, its reward the change.

    r_t = Phi_t - Phi_{t-1},   Phi_0 = initial,   G_t = sum_{k >= t} r_k = Phi_T - Phi_{t-1}

``terminal = "keep"`` optimises Phi_T; ``"zero"`` appends -Phi_T, so that G_t = -Phi_{t-1}: a state baseline, whose
expected gradient is 0. ``keep`` is biased for the sum of the values (it optimises the last one), exact for the last.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rewards.assign.base import TurnValues, numbers, placed
from rewards.option import Finite, Option


class PotentialDifference(Option):
    kind: Literal["potential"] = "potential"
    biased: ClassVar[bool] = True
    terminal: Literal["keep", "zero"] = "keep"
    initial: Finite = 0.0
    """Potential before the first turn."""

    def assign(self, rewards: TurnValues) -> list[float | None]:
        """Phi_T - Phi_{t-1}, or -Phi_{t-1}."""
        values = numbers(rewards)
        if not values:
            return list(rewards)
        last = values[-1] if self.terminal == "keep" else 0.0
        return placed(rewards, [last - before for before in [self.initial, *values[:-1]]])

    def floor(self, stretch: float, top: float) -> float:
        """From the highest potential to the lowest."""
        lowest = min(0.0, stretch) if self.terminal == "keep" else 0.0
        return lowest - max(top, self.initial)
