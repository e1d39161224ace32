"""One token from logits, by a uniform that depends on the sample's key alone.

The uniform of token ``i`` is the first 53 bits of BLAKE2b over (seed, step, prompt, sample, turn, i): counter-based,
so it does not depend on which rows share the batch. The token is the inverse of the cumulative distribution in the
order of the vocabulary; its log-probability at the sampler's temperature is recorded from the same logits.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent.policy import PolicyError
from agent.trajectory import Key

if TYPE_CHECKING:
    from torch import Tensor


def uniform(key: Key, turn: int, index: int) -> float:
    """In [0, 1), a function of the arguments alone."""
    name = f"{key.seed}/{key.step}/{key.prompt}/{key.sample}/{turn}/{index}"
    return (int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 11) / 2.0**53


def draw(logits: Tensor, temperature: float, uniforms: list[float]) -> tuple[list[int], list[float]]:
    """Token ids and log-probabilities of (B, V) logits, which it overwrites. Temperature 0: the most likely token,
    with its log-probability at temperature 1. Raises :class:`PolicyError` when a logit is not a number."""
    import torch

    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    if temperature > 0:
        logits /= temperature
    top, best = logits.max(-1, keepdim=True)
    if not bool(torch.isfinite(top).all()):
        raise PolicyError("the model gave logits that are not numbers: the weights are broken, go back to a checkpoint")
    logits -= top
    if temperature > 0:
        weights = logits.exp()
        total = weights.cumsum(-1)
        sums = total[:, -1:]
        at = torch.tensor(uniforms, dtype=total.dtype, device=logits.device)[:, None] * sums
        # Rounding may lift a draw to the total, where no token begins.
        ids = torch.searchsorted(total, torch.minimum(at, torch.nextafter(sums, 0 * sums)), right=True)
    else:
        sums, ids = logits.exp().sum(-1, keepdim=True), best
    logprobs = logits.gather(-1, ids) - sums.log()
    return ids[:, 0].tolist(), logprobs[:, 0].tolist()
