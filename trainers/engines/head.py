"""The product with the vocabulary, for the few rows of a sampling step.

It is a fifth of a step's work, and at 1 to 100 rows a matrix laid out in blocks ahead of time is about twice as fast
on a CPU as the plain one. That costs a second copy of the matrix, so it is made only of a frozen one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 128
"""Above so many rows the plain product is as fast."""


class Head:
    """Hidden states (B, width) -> logits (B, vocabulary), without gradient."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._blocked: Any = None

    def __call__(self, states: Tensor) -> Tensor:
        if states.shape[0] > ROWS or not self._possible():
            return self._layer(states)
        import torch

        if self._blocked is None:
            self._blocked = torch.ops.mkldnn._reorder_linear_weight(self._layer.weight.detach(), 32)
        return torch.ops.mkldnn._linear_pointwise(states, self._blocked, None, "none", [], "")

    def _possible(self) -> bool:
        import torch

        weight = self._layer.weight
        return (
            weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and not weight.requires_grad
            and self._layer.bias is None
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        )
