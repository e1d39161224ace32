"""CISPO (MiniMax-M1, 2025): the importance weight is clipped and has no gradient, so every token keeps its own.

L = -sg(clip(r, floor, cap)) A now
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Cispo
from trainers.losses.clip import ratio
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def surrogate(config: Cispo, tokens: Tokens) -> Tensor:
    """(N,) token losses."""
    weight = ratio(tokens).detach().clamp(config.floor, config.cap)
    return -weight * tokens.advantage * tokens.now


def capped(config: Cispo, tokens: Tokens) -> Tensor:
    """(N,) where the weight is not the ratio."""
    weight = ratio(tokens).detach()
    return (weight > config.cap) | (weight < config.floor)
