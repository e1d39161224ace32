"""One micro-batch through the model: log-probabilities of its sampled tokens, flat, with everything that a loss reads.

A row's tokens behind its last sampled one are left out, and so is that one as an input: nothing depends on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainers.learning.batch import Micro
from trainers.model.attention import hidden
from trainers.model.logprobs import logprobs
from trainers.model.packing import Packed, pack
from trainers.protocol import Row

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Flat:
    """The sampled tokens of a micro-batch, in row order; all lists have one entry a token."""

    line: list[int]
    layout: Packed
    places: list[int] = field(default_factory=list[int])
    """Packed index of the state that predicts the token."""
    targets: list[int] = field(default_factory=list[int])
    sampler: list[float] = field(default_factory=list[float])
    advantages: list[float] = field(default_factory=list[float])
    rollouts: list[str] = field(default_factory=list[str])
    owners: list[Row] = field(default_factory=list[Row])
    """The row that a token belongs to."""
    missing: int = 0
    """Sampled tokens without a log-probability (NaN: the sampler was forced): they carry no loss."""

    @property
    def positions(self) -> list[int]:
        return [position for block in self.layout.blocks for position in block.positions()]


def flatten(micro: Micro) -> Flat:
    """Token bookkeeping of a micro-batch."""
    inputs = [[row.ids[: _last(row.mask)] for row in rows] for rows in micro.blocks]
    line, shapes = pack(inputs)
    flat = Flat(line, Packed(shapes))
    for rows, shape in zip(micro.blocks, shapes, strict=True):
        for index, row in enumerate(rows):
            places = shape.places(index)
            for t, sampled in enumerate(row.mask):
                if not sampled:
                    continue
                if math.isnan(row.logprobs[t]):
                    flat.missing += 1
                    continue
                flat.places.append(places[t - 1])
                flat.targets.append(row.ids[t])
                flat.sampler.append(row.logprobs[t])
                flat.advantages.append(row.advantages[t])
                flat.rollouts.append(row.rollout)
                flat.owners.append(row)
    return flat


WHOLE = "packed_logprobs"
"""Method of a network whose weights are shared out: the whole pass, between the hooks that gather them."""


def forward(net: Any, flat: Flat, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy (without gradient) of each sampled token, (N,)."""
    shared = getattr(net, WHOLE, None)
    return shared(flat, temperature) if shared else compute(net, flat, temperature)


def compute(net: Any, flat: Flat, temperature: float) -> tuple[Tensor, Tensor]:
    """See :func:`forward`."""
    import torch

    device = net.lm_head.weight.device
    line, positions, places, targets = (
        torch.tensor(values, device=device) for values in (flat.line, flat.positions, flat.places, flat.targets)
    )
    return logprobs(net.lm_head, hidden(net, line, positions, flat.layout, places), targets, temperature)


def _last(mask: tuple[bool, ...]) -> int:
    """Index of the last sampled token."""
    return max((t for t, sampled in enumerate(mask) if sampled), default=0)
