"""Off-policy sequence masking (DeepSeek-V3.2, 2025): forget a bad sequence that the policy has already left.

A token is dropped when its advantage is negative and its rollout's mean of sampler - now is above the threshold; the
denominator of the aggregation stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def keep(threshold: float, tokens: Tokens) -> Tensor:
    """(N,) 0 where a token is dropped, else 1."""
    stale = tokens.mean((tokens.sampler - tokens.now).detach()) > threshold
    return (~(stale & (tokens.advantage < 0))).to(tokens.now.dtype)
