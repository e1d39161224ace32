"""Log-probabilities under a head that learns, chunk by chunk: see :mod:`trainers.model.logprobs` for the formulas.

A chunk's logits exist once in the forward and once in the backward pass, in one buffer that is overwritten in place.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from trainers.model.chunks import CHUNK, wide

if TYPE_CHECKING:
    from torch import Tensor


@cache
def function() -> Any:
    """The autograd function ``(states, weight, targets, temperature) -> (log-probabilities, entropies)``; made on first
    use, because its base class needs torch."""
    import torch

    class Learned(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, temperature: float
        ) -> tuple[Tensor, Tensor]:
            parts = zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
            found = [_forward(part, weight, chosen, temperature) for part, chosen in parts]
            values, entropies, slopes, norms = (torch.cat(column) for column in zip(*found, strict=True))
            ctx.save_for_backward(states, weight, targets, slopes, norms)
            ctx.temperature = temperature
            ctx.mark_non_differentiable(entropies)
            return values, entropies

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
            states, weight, targets, slopes, norms = ctx.saved_tensors
            scaled = states * (grads[0] / ctx.temperature).to(states.dtype)[:, None]
            return (
                slopes * grads[0].to(slopes.dtype)[:, None],
                _head(states / ctx.temperature, scaled, weight, targets, norms),
                None,
                None,
            )

    return Learned


def _forward(
    states: Tensor, weight: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, entropies, slopes of the states and log Z of one chunk."""
    import torch

    warm = states / temperature
    logits = wide(warm @ weight.T)
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    top = logits.amax(-1, keepdim=True)
    p = logits.sub_(top).exp_()
    total = p.sum(-1)
    norm = top[:, 0] + total.log()
    mean = (p.to(weight.dtype) @ weight) / total.to(weight.dtype)[:, None]
    entropy = norm - torch.linalg.vecdot(wide(mean), wide(warm))
    return chosen - norm, entropy, (weight[targets] - mean) / temperature, norm


def _head(warm: Tensor, scaled: Tensor, weight: Tensor, targets: Tensor, norms: Tensor) -> Tensor:
    """Sum over positions of (e_y - p) h g / T, (vocabulary, width); ``scaled`` is h g / T."""
    import torch

    kind = torch.promote_types(weight.dtype, torch.float32)
    out = torch.zeros(weight.shape, dtype=kind, device=weight.device)
    for part, rows, norm in zip(warm.split(CHUNK), scaled.split(CHUNK), norms.split(CHUNK), strict=True):
        p = wide(part @ weight.T).sub_(norm[:, None]).exp_()
        out.addmm_(p.T, rows.to(kind), alpha=-1)
    return out.index_add_(0, targets, scaled.to(kind)).to(weight.dtype)
