"""From :class:`trainers.config.LossConfig` to one number a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Cispo, Clip, Dppo, Gspo, LossConfig, PolicyLoss, Sapo
from trainers.losses import cispo, clip, correction, dppo, gspo, kl, opsm, sapo
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def surrogate(config: LossConfig, tokens: Tokens) -> Tensor:
    """(N,) token losses of the policy part."""
    match config.policy:
        case Clip():
            return clip.surrogate(config.policy, tokens)
        case Gspo():
            return gspo.surrogate(config.policy, tokens)
        case Cispo():
            return cispo.surrogate(config.policy, tokens)
        case Sapo():
            return sapo.surrogate(config.policy, tokens)
        case Dppo():
            return dppo.surrogate(config.policy, tokens)


def losses(config: LossConfig, tokens: Tokens) -> Tensor:
    """(N,) token losses of everything that is configured; their weighted sum is what a step minimises."""
    loss = surrogate(config, tokens)
    if config.correction:
        loss = loss * correction.weight(config.correction, tokens)
    if config.opsm is not None:
        loss = loss * opsm.keep(config.opsm, tokens)
    if config.kl:
        loss = loss + config.kl.weight * kl.penalty(config.kl, tokens)
    return loss


def clipped(config: PolicyLoss, tokens: Tokens) -> Tensor:
    """(N,) where a bound of the policy part takes the gradient away, or caps the weight of one that it keeps."""
    import torch

    match config:
        case Clip():
            return clip.clipped(config, tokens)
        case Gspo():
            return gspo.clipped(config, tokens)
        case Cispo():
            return cispo.capped(config, tokens)
        case Sapo():
            return torch.zeros_like(tokens.rollout, dtype=torch.bool)
        case Dppo():
            return dppo.dropped(config, tokens)


def dead_without_credit(config: LossConfig) -> bool:
    """Whether a rollout whose advantages are all 0 has no gradient, and may be left out of the forward pass."""
    return config.kl is None and not (isinstance(config.policy, Dppo) and config.policy.tau > 0)
