"""Log-probabilities under a head that is frozen, chunk by chunk: see :mod:`trainers.model.logprobs` for the formulas.

The slope of a hidden state is computed with its logits and kept; the backward pass is a product of a column and a row.
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

    class Chosen(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, temperature: float
        ) -> tuple[Tensor, Tensor]:
            wanted = ctx.needs_input_grad[0]
            parts = [
                _chunk(part, weight, chosen, temperature, wanted)
                for part, chosen in zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
            ]
            values, entropies, slopes = (torch.cat(column) for column in zip(*parts, strict=True))
            ctx.save_for_backward(slopes)
            ctx.mark_non_differentiable(entropies)
            return values, entropies

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
            (slopes,) = ctx.saved_tensors
            return grads[0][:, None].to(slopes.dtype) * slopes, None, None, None

    return Chosen


def _chunk(
    states: Tensor, weight: Tensor, targets: Tensor, temperature: float, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, entropies and slopes of one chunk."""
    import torch

    logits = wide(states @ weight.T)
    logits /= temperature
    logs = torch.log_softmax(logits, -1)
    chosen = logs.gather(-1, targets[:, None])[:, 0]
    p = torch.exp(logs, out=logits)
    entropy = -torch.linalg.vecdot(p, logs)
    slopes = (weight[targets] - p.to(weight.dtype) @ weight) / temperature if wanted else states.new_zeros(0)
    return chosen, entropy, slopes
