"""Log-probabilities of chosen tokens from hidden states, without keeping a single row of logits.

With a frozen head the gradient with respect to a hidden state is known as soon as its logits are:

    d log p(y) / d h = (W[y] - p W) / T

so the forward pass computes it chunk by chunk and keeps (M, width) numbers instead of (M, vocabulary); the backward
pass is one product of a column and a row. A head that learns has the same slope, and for its own weights

    d log p(y) / d W = (e_y - p) h / T

so that the backward pass computes each chunk's p once more. The entropy costs nothing: with the logits W h / T it is
log Z - h . (p W) / T, and p W is there already. A head with a bias goes through checkpointed chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at the same time."""


def logprobs(head: Any, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each target at a temperature, and the entropy of its distribution (no gradient); both (M,).

    ``states`` is (M, width), ``targets`` (M,), ``head`` the linear layer to the vocabulary.
    """
    if head.bias is None and not head.weight.requires_grad:
        return _function().apply(states, head.weight, targets, temperature)
    if head.bias is None:
        from trainers.learned_head import function

        return function().apply(states, head.weight, targets, temperature)
    return _checkpointed(head, states, targets, temperature)


def _checkpointed(head: Any, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    import torch
    from torch.utils.checkpoint import checkpoint

    def chunk(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(_wide(head(part)) / temperature, -1)
        entropy = -(logs.exp() * logs).sum(-1).detach()
        return logs.gather(-1, wanted[:, None])[:, 0], entropy

    pairs = [
        checkpoint(chunk, part, wanted, use_reentrant=False)
        for part, wanted in zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    values, entropies = zip(*pairs, strict=True)
    return torch.cat(values), torch.cat(entropies)


_cached: list[Any] = []


def _function() -> Any:
    """The autograd function; made on first use, because its base class needs torch."""
    if not _cached:
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

        _cached.append(Chosen)
    return _cached[0]


def _chunk(
    states: Tensor, weight: Tensor, targets: Tensor, temperature: float, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, entropies and slopes of one chunk."""
    import torch

    logits = _wide(states @ weight.T)
    logits /= temperature
    logs = torch.log_softmax(logits, -1)
    chosen = logs.gather(-1, targets[:, None])[:, 0]
    p = torch.exp(logs, out=logits)
    entropy = -torch.linalg.vecdot(p, logs)
    slopes = (weight[targets] - p.to(weight.dtype) @ weight) / temperature if wanted else states.new_zeros(0)
    return chosen, entropy, slopes


def _wide(logits: Tensor) -> Tensor:
    """Sums over a vocabulary need more than half precision."""
    import torch

    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
