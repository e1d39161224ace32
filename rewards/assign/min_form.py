"""PURE, min-form credit ("Stop Summation", arXiv 2504.15275; rewards.md, section 3.1).

    r'_t = softmax_t(-r_t / temperature) r_t,     sum_t r'_t -> min_t r_t  as temperature -> 0,     G_t = sum_{k >= t}
    r'_k

The value of a step is the worst step still to come: the range stays bounded and a high score in one place cannot pay
for a bad one elsewhere. Here the step scores are verifiable (shadow-test fractions), which the algorithm does not
need a reward model for. Biased for the sum of rewards by intent: it optimises the minimum. temperature = 0.1 is the
authors' code.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from rewards.assign.base import TurnValues, numbers, placed
from rewards.assign.return_to_go import accumulate
from rewards.option import Option, Positive


class MinForm(Option):
    kind: Literal["min_form"] = "min_form"
    biased: ClassVar[bool] = True
    temperature: Positive = 0.1

    def assign(self, rewards: TurnValues) -> list[float | None]:
        """Softmin-weighted rewards, summed from each turn to the end."""
        scores = numbers(rewards)
        if not scores:
            return list(rewards)
        least = min(scores)
        weights = [math.exp(-(score - least) / self.temperature) for score in scores]
        total = math.fsum(weights)
        shaped = [weight / total * score for weight, score in zip(weights, scores, strict=True)]
        return placed(rewards, accumulate(shaped, 1.0))

    def floor(self, stretch: float, top: float) -> float:
        """A part of a weighted mean."""
        return min(0.0, stretch)
