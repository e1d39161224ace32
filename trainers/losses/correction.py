"""Importance weights between what sampled and what learns, w = exp(old - sampler), without gradient.

Per token, or per rollout with the sum of its log-ratios; above ``cap`` a weight is truncated to it or set to 0 (TIS,
MIS). They are right only when the recorded log-probabilities are those of the distribution that was drawn from:
temperature included, and no top-p or top-k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Correction
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def weight(config: Correction, tokens: Tokens) -> Tensor:
    """(N,) factors of the token losses."""
    w = _whole(config, tokens)
    return w.clamp(max=config.cap) if config.mode == "truncate" else w.masked_fill(w > config.cap, 0.0)


def above(config: Correction, tokens: Tokens) -> Tensor:
    """(N,) where the weight is truncated or dropped."""
    return _whole(config, tokens) > config.cap


def _whole(config: Correction, tokens: Tokens) -> Tensor:
    """(N,) w before the cap."""
    log = (tokens.old - tokens.sampler).detach()
    return (tokens.sum(log) if config.level == "sequence" else log).exp()
