"""Activation checkpointing: each layer keeps its input and computes the rest again in the backward pass.

Chen et al. 2016 (arXiv:1604.06174), a layer at a time. While sampling nothing is kept anyway, and nothing is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def install(net: Any) -> None:
    """Let every layer of a network recompute. Idempotent."""
    for layer in net.base_model.layers:
        if not getattr(layer, "recomputes", False):
            layer.recomputes = True
            layer.forward = _again(layer.forward)


def _again(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        import torch
        from torch.utils.checkpoint import checkpoint

        if not torch.is_grad_enabled():
            return forward(hidden_states, *args, **kwargs)
        # Nothing is drawn in a layer, so that no random state need be kept.
        return checkpoint(forward, hidden_states, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
