"""Clip and Delta (arXiv 2410.15115, formulas from memory; rewards.md, section 3.3): bound what repeated correct steps
can collect.

    Clip:  r_k = min(p_k - eta, 0)                     only steps under eta pay, negatively
    Delta: r_k = p_k - p_{k+1} for k < K-1;  p_{K-1} for k = K-1;  0 for k = K

``p_k`` is the sum of the critics' marks at turn k, K the number of turns. Clip first, then Delta. Delta telescopes:
the return from step k is p_k whatever the length. The return is the outcome plus ``coefficient`` times the refined
step rewards. Defaults are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from rewards.combine.channel import Channel, Combined
from rewards.errors import RewardError
from rewards.option import Finite, Option, Weight


class ClipDelta(Option):
    kind: Literal["clip_delta"] = "clip_delta"
    clip: bool = True
    delta: bool = True
    eta: Finite = 0.1
    coefficient: Weight = 1.0
    horizon: Annotated[int, Field(ge=1)] = 50
    """Most turns of an episode: without Delta the bound on the return grows with it. Longer episodes are refused."""

    def combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        """Refine the summed marks, then add."""
        if length > self.horizon:
            raise RewardError(
                f"combination 'clip_delta': an episode of {length} turns is beyond its horizon {self.horizon}"
            )
        marks = [math.fsum(column) for column in zip(*(channel.marks for channel in channels), strict=True)]
        steps = self.refine(marks or [0.0] * length)
        return Combined(outcome, tuple(self.coefficient * step for step in steps), True)

    def refine(self, marks: Sequence[float]) -> list[float]:
        """One reward per mark."""
        clipped = [min(mark - self.eta, 0.0) for mark in marks] if self.clip else list(marks)
        if not self.delta:
            return clipped
        return [a - b for a, b in pairwise(clipped[:-1])] + [*clipped[-2:-1], 0.0]

    def span(self, outcome: float, ranges: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
        """Least and greatest return at an outcome level; a mark lies in its critic's range."""
        low, high = sum(low for _, low, _ in ranges), sum(high for _, _, high in ranges)
        if self.clip:
            low, high = min(low - self.eta, 0.0), min(high - self.eta, 0.0)
        steps = 1 if self.delta else self.horizon
        return (
            outcome + self.coefficient * min(0.0, low * steps),
            outcome + self.coefficient * max(0.0, high * steps),
        )

    def opens(self, outcome: float) -> bool:
        return True
