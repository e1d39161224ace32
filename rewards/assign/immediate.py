"""Immediate (VeRPO, equation 12): each turn is credited with its own reward and nothing later.

Biased for the sum of rewards: what a turn makes possible later is not credited to it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rewards.assign.base import TurnValues
from rewards.option import Option


class Immediate(Option):
    kind: Literal["immediate"] = "immediate"
    biased: ClassVar[bool] = True

    def assign(self, rewards: TurnValues) -> list[float | None]:
        """The rewards themselves."""
        return list(rewards)

    def floor(self, stretch: float, top: float) -> float:
        return stretch
