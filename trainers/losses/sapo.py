"""SAPO (soft adaptive policy optimisation, 2025): a sigmoid gate in the place of the clip.

    L = -A sigmoid(tau (r - 1)) 4 / tau,  tau = positive where A > 0, else negative

At r = 1 its gradient is that of the plain surrogate; it fades smoothly as r moves away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Sapo
from trainers.losses.clip import ratio
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def surrogate(config: Sapo, tokens: Tokens) -> Tensor:
    """(N,) token losses."""
    import torch

    a = tokens.advantage
    tau = torch.where(a > 0, config.positive, config.negative).to(a.dtype)
    return -a * torch.sigmoid(tau * (ratio(tokens) - 1)) * 4 / tau
