"""What steps the weights: the gradient of a step goes in micro-batch by micro-batch, then the weights move once.

Who holds the masters, the moments and the sum over ranks differs: :class:`Adam` here holds them itself, over weights
that are whole or that FSDP2 shares out; :mod:`trainers.learning.zero` gives them to DeepSpeed. The learner tells
neither apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trainers.config import OptimConfig
from trainers.learning.ranks import Ranks
from trainers.learning.sharded import alike, whole
from trainers.model.masters import lend, masters, settle

if TYPE_CHECKING:
    from torch import Tensor


class Optimiser(Protocol):
    """Of a learner; one of several on several ranks, which make the same calls."""

    @property
    def even(self) -> bool:
        """Whether a backward pass is a call of all ranks, so that all must make as many of them."""
        ...

    @property
    def masters(self) -> Mapping[str, Tensor]:
        """What is stepped, in full precision, by the name of the weight."""
        ...

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of one micro-batch; ``last`` is the step's last one on this rank."""
        ...

    def reduce(self) -> None:
        """Sum the gradient over the ranks, if the backward passes did not. A call of all ranks."""
        ...

    def gradient(self) -> dict[str, Tensor]:
        """The gradient of the step, whole; it is forgotten. A call of all ranks."""
        ...

    def step(self, lr: float) -> float:
        """Clip, step and forget the gradient. Returns its norm before clipping; where that is not finite nothing is
        stepped."""
        ...

    def restart(self) -> None:
        """Forget the moments."""
        ...

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The masters, whole, one at a time. A call of all ranks."""
        ...

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """The optimiser's state as ``weight/key``, whole, one at a time. A call of all ranks."""
        ...

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Whole masters and moments, as the two above gave them."""
        ...


def adam(tensors: list[Tensor], config: OptimConfig) -> Any:
    """AdamW over some tensors."""
    import torch

    return torch.optim.AdamW(tensors, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


class Adam:
    """AdamW over masters that this process holds: all of them, or its part of each. See :class:`Optimiser`."""

    def __init__(self, parameters: Mapping[str, Any], config: OptimConfig, ranks: Ranks, shared: bool) -> None:
        """``shared``: the weights are shared out over the ranks (:mod:`trainers.learning.sharded`)."""
        self.parameters, self.config, self.ranks, self.even = parameters, config, ranks, shared
        self.masters = masters(parameters)
        self.restart()

    def backward(self, loss: Tensor, last: bool) -> None:
        """Gradients are in ``grad`` of the weights."""
        loss.backward()

    def reduce(self) -> None:
        """With FSDP2 the backward passes summed them where they are owned."""
        import torch

        if self.ranks.size == 1 or self.even:
            return
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.sum([parameter.grad for parameter in self.parameters.values()])

    def gradient(self) -> dict[str, Tensor]:
        """Of weights that had one."""
        found = {name: whole(p.grad).clone() for name, p in self.parameters.items() if p.grad is not None}
        self._clear()
        return found

    def step(self, lr: float) -> float:
        """In place."""
        import torch

        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)))
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            lend(self.parameters, self.masters)
            self.optimiser.step()
            settle(self.parameters, self.masters)
        self._clear()
        return norm

    def restart(self) -> None:
        """A new AdamW."""
        self.optimiser = adam(list(self.masters.values()), self.config)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Gathered with FSDP2."""
        for name, master in self.masters.items():
            yield name, whole(master.detach())

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """Gathered with FSDP2; none before the first step."""
        for name, master in self.masters.items():
            for key, value in self.optimiser.state.get(master, {}).items():
                yield f"{name}/{key}", whole(value.detach())

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Bit for bit."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                value = alike(weights[name], parameter)
                self.masters[name].copy_(value)
                parameter.copy_(value)
        self.optimiser.state.clear()
        for place, value in moments.items():
            name, _, key = place.rpartition("/")
            master = self.masters[name]
            self.optimiser.state[master][key] = alike(value, master)

    def _clear(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None
