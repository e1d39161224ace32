"""Outcome only: the return is the outcome's level. Critics are computed and shown, and pay nothing (G-RA with
threshold +inf)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.combine.channel import Channel, Combined
from rewards.option import Option


class OutcomeOnly(Option):
    kind: Literal["outcome"] = "outcome"

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """Drop the step rewards."""
        return Combined(outcome, (0.0,) * length, False)

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """The level itself."""
        return outcome, outcome

    def opens(self, outcome: float) -> bool:
        return False
