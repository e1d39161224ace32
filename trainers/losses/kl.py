"""A penalty towards a reference model, d = reference - now (Schulman's note on approximating KL divergence, 2020).

    k1 = -d        k2 = d^2 / 2        k3 = exp(d) - d - 1

As estimates all three approach KL(policy || reference). As *losses* they differ: on-policy the expected gradient of
k1 is zero, that of k2 is the gradient of KL(policy || reference), that of k3 the gradient of KL(reference || policy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.config import Kl
from trainers.losses.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def penalty(config: Kl, tokens: Tokens) -> Tensor:
    """(N,) values of the estimator, not weighted. Needs ``tokens.reference``."""
    if tokens.reference is None:
        raise ValueError("a KL penalty needs the reference model's log-probabilities")
    d = tokens.reference - tokens.now
    match config.estimator:
        case "k1":
            return -d
        case "k2":
            return d * d / 2
        case "k3":
            return d.exp() - d - 1
