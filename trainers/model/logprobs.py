"""Log-probabilities of chosen tokens from hidden states, without keeping a single row of logits.

With a frozen head (:mod:`trainers.model.frozen_head`) the gradient with respect to a hidden state is known as soon
as its logits are:

    d log p(y) / d h = (W[y] - p W) / T

so the forward pass computes it chunk by chunk and keeps (M, width) numbers instead of (M, vocabulary); the backward
pass is one product of a column and a row. A head that learns (:mod:`trainers.model.learned_head`) has the same slope,
and for its own weights

    d log p(y) / d W = (e_y - p) h / T

so that the backward pass computes each chunk's p once more. The entropy costs nothing: with the logits W h / T it is
log Z - h . (p W) / T, and p W is there already. A head with a bias goes through checkpointed chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainers.model import frozen_head, learned_head
from trainers.model.chunks import CHUNK, wide

if TYPE_CHECKING:
    from torch import Tensor


def logprobs(head: Any, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each target at a temperature, and the entropy of its distribution (no gradient); both (M,).

    ``states`` is (M, width), ``targets`` (M,), ``head`` the linear layer to the vocabulary.
    """
    if head.bias is None:
        way = learned_head if head.weight.requires_grad else frozen_head
        return way.function().apply(states, head.weight, targets, temperature)
    return _checkpointed(head, states, targets, temperature)


def _checkpointed(head: Any, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    import torch
    from torch.utils.checkpoint import checkpoint

    def chunk(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(wide(head(part)) / temperature, -1)
        entropy = -(logs.exp() * logs).sum(-1).detach()
        return logs.gather(-1, wanted[:, None])[:, 0], entropy

    pairs = [
        checkpoint(chunk, part, wanted, use_reentrant=False)
        for part, wanted in zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    values, entropies = zip(*pairs, strict=True)
    return torch.cat(values), torch.cat(entropies)
