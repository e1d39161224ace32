"""PPO's clipped surrogate, with clip-higher and dual clip.

    L = -min(r A, clip(r, 1 - low, 1 + high) A),  r = exp(now - old)

(Schulman et al. 2017; DAPO, 2025, raises ``high`` alone.) Dual clip with c > 1 (Ye et al. 2020): where A < 0, L is at
most -c A, so a token whose ratio exploded has no gradient; TRL's ``delta`` = c gives the same. Log-ratios are clamped
to +-20.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Clip
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 20.0


def ratio(tokens: Tokens) -> Tensor:
    """exp(now - old), the log-ratio clamped so that it stays finite."""
    return (tokens.now - tokens.old).clamp(-LIMIT, LIMIT).exp()


def surrogate(config: Clip, tokens: Tokens) -> Tensor:
    """(N,) token losses."""
    import torch

    r, a = ratio(tokens), tokens.advantage
    loss = -torch.minimum(r * a, r.clamp(1 - config.low, 1 + config.high) * a)
    if config.dual is None:
        return loss
    return torch.where(a < 0, torch.minimum(loss, -config.dual * a), loss)


def clipped(config: Clip, tokens: Tokens) -> Tensor:
    """(N,) where the clip took the gradient away."""
    r, a = ratio(tokens), tokens.advantage
    return ((a > 0) & (r > 1 + config.high)) | ((a < 0) & (r < 1 - config.low))
