"""Group sequence policy optimisation (Zheng et al. 2025): the ratio is the sequence's, s_i = exp(mean_t (now - old)).

Written token-wise, log s_it = now - sg(now) + sg(log s_i) with sg = no gradient: with ``seq-mean-token-mean`` loss and
gradient are those of the sequence form, and turn-wise advantages remain possible. Clipped like PPO, at a few 1e-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Gspo
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 10.0
"""Largest log-ratio."""


def surrogate(config: Gspo, tokens: Tokens) -> Tensor:
    """(N,) token losses."""
    import torch

    log = mean_log(tokens)
    r = (tokens.now - tokens.now.detach() + log).clamp(max=LIMIT).exp()
    a = tokens.advantage
    return -torch.minimum(r * a, r.clamp(1 - config.low, 1 + config.high) * a)


def mean_log(tokens: Tokens) -> Tensor:
    """(N,) log s_i of each token's sequence, without gradient."""
    return tokens.mean(tokens.now - tokens.old).detach()


def clipped(config: Gspo, tokens: Tokens) -> Tensor:
    """(N,) where the clip took the gradient away."""
    s, a = mean_log(tokens).clamp(max=LIMIT).exp(), tokens.advantage
    return ((a > 0) & (s > 1 + config.high)) | ((a < 0) & (s < 1 - config.low))
