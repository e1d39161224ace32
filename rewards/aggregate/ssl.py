"""Sweet Spot Learning tiers (arXiv 2601.22491; rewards.md, section 3.5): ``R_SSL = C + alpha * S`` with S a quantised
progress score.

C is the outcome and comes from the combination; this option is ``alpha * S``. For code, S is VeRPO's turn reward as a
share of the most that the group's weights can pay, quantised to the tiers it has reached (an inference of the
specification). The paper's tier edges and alpha are unknown: both are ours.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Literal, Self

from pydantic import model_validator

from rewards.aggregate.verpo import Verpo
from rewards.combine.channel import TOLERANCE
from rewards.facts import Grades, Suite
from rewards.kernels import passes, weighted
from rewards.option import Finite, Option, Weight


class Tiers(Option):
    kind: Literal["ssl"] = "ssl"
    alpha: Weight = 0.2
    """Pay of the highest tier."""
    edges: tuple[Finite, ...] = (0.25, 0.5, 0.75, 1.0)
    """Ascending shares in (0, 1]; reaching the k-th of n pays ``alpha * k / n``."""
    progress: Verpo = Verpo()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.edges or not self.edges[0] > 0 or not self.edges[-1] <= 1:
            raise ValueError(f"tier edges must lie in (0, 1], not {self.edges}")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"tier edges must ascend, not {self.edges}")
        return self

    def values(self, grades: Grades, suite: Suite | None) -> list[float]:
        """Per attempt, one of ``len(edges) + 1`` values in [0, alpha]."""
        if not grades.names:
            return [0.0] * len(grades.rows)
        counts = passes(grades.rows)
        weights = self.progress.weights(counts, len(grades.rows))
        full = "1" * len(grades.names)
        *paid, most = weighted([*grades.rows, full], counts, weights)
        return [self.alpha * bisect_right(self.edges, value / most + TOLERANCE) / len(self.edges) for value in paid]

    def top(self) -> float:
        """Greatest possible value."""
        return self.alpha
