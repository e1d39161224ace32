"""The sampled tokens of whole rollouts, flat: what every policy loss reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """N sampled tokens of R rollouts. All log-probabilities are at the sampler's temperature."""

    now: Tensor
    """(N,) log-probability under the weights that learn; carries the gradient."""
    old: Tensor
    """(N,) under the behaviour policy that the ratio is taken to."""
    sampler: Tensor
    """(N,) as the sampler recorded it."""
    advantage: Tensor
    """(N,)"""
    rollout: Tensor
    """(N,) int64 in [0, R): which rollout a token belongs to."""
    reference: Tensor | None = None
    """(N,) under the reference model."""

    def sum(self, values: Tensor) -> Tensor:
        """Sums of (N,) values by rollout, spread back to the tokens."""
        size = int(self.rollout.max()) + 1
        return values.new_zeros(size).index_add(0, self.rollout, values)[self.rollout]

    def mean(self, values: Tensor) -> Tensor:
        """Means by rollout, spread back to the tokens."""
        import torch

        return self.sum(values) / self.sum(torch.ones_like(values))


Surrogate = Callable[[Tokens], "Tensor"]
"""A policy loss: one number a token, (N,)."""
