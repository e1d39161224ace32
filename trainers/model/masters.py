"""Masters in float32 of weights that live in half precision: what the optimiser steps.

A step of 1e-6 is lost when it is added to a weight in bfloat16, which has eight bits. So the optimiser keeps a copy in
float32, steps that, and the weights are set to its rounding after every step (Micikevicius et al., arXiv:1710.03740).
Weights in full precision are their own masters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def masters(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By name: the weight itself in full precision, a copy in float32 otherwise."""
    import torch

    half = (torch.bfloat16, torch.float16)
    return {name: p.detach().float().clone() if p.dtype in half else p for name, p in parameters.items()}


def lend(parameters: Mapping[str, Tensor], steppable: Mapping[str, Tensor]) -> None:
    """Give every master its weight's gradient."""
    for name, master in steppable.items():
        if master is not parameters[name]:
            gradient = parameters[name].grad
            master.grad = None if gradient is None else gradient.float()


def settle(parameters: Mapping[str, Tensor], steppable: Mapping[str, Tensor]) -> None:
    """Set every weight to the rounding of its master."""
    import torch

    with torch.no_grad():
        for name, master in steppable.items():
            if master is not parameters[name]:
                master.grad = None
                parameters[name].copy_(master)
