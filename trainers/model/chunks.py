"""What every way to a log-probability shares: how many rows of logits exist at a time, and in what precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at the same time."""


def wide(values: Tensor) -> Tensor:
    """In float32 at least: sums over a vocabulary need more than half precision."""
    import torch

    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
