"""DPPO with the binary total-variation bound: a trust region on probabilities instead of ratios.

    L = -keep r A + tau (now - old)^2

``keep`` drops a token whose probability moved further than ``bound`` in the direction that its advantage pushes:
exp(now) - exp(old) > bound with A > 0, or < -bound with A < 0. The squared log-ratio stays on every token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Dppo
from trainers.losses.clip import ratio
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def dropped(config: Dppo, tokens: Tokens) -> Tensor:
    """(N,) where a token left the trust region."""
    moved, a = (tokens.now.exp() - tokens.old.exp()).detach(), tokens.advantage
    return ((a > 0) & (moved > config.bound)) | ((a < 0) & (moved < -config.bound))


def surrogate(config: Dppo, tokens: Tokens) -> Tensor:
    """(N,) token losses."""
    gain = (ratio(tokens) * tokens.advantage).masked_fill(dropped(config, tokens), 0.0)
    return config.tau * (tokens.now - tokens.old) ** 2 - gain
