"""Several processes that learn together: each has a share of the rollouts, gradients are summed.

Every rank is given all rows of a step, so normalisers are those of the whole step (invariant 8) and summing gradients
is exact: the number of ranks changes nothing. Rollouts are dealt whole, the longest first to the rank with the fewest
tokens. Rank 0 runs the loop; the others serve it (:func:`serve`): they wait for its calls and make the same ones.

Processes are started by ``torchrun`` (or ``accelerate launch``), which sets ``RANK`` and ``WORLD_SIZE``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from trainers.protocol import Learner, Row

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = timedelta(hours=2)
"""Time-out of a collective call: longer than any step is played, so that waiting ranks do not give up."""


class Ranks(Protocol):
    """The processes that learn together, seen from one of them."""

    @property
    def rank(self) -> int:
        """Of this process; 0 runs the loop."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def share(self, rollouts: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
        """This rank's part of the rollouts of a step."""
        ...

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """A plain value of every rank, in their order."""
        ...


class RankLearner(Learner, Protocol):
    """A learner that is one of several."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """The network's whole state, gathered from all ranks where it is shared out."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1

    def share(self, rollouts: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
        """All of them."""
        return list(rollouts)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to add."""

    def gather(self, value: Any) -> list[Any]:
        """Of this process."""
        return [value]


@dataclass(frozen=True, slots=True)
class Group:
    """The default process group of torch.distributed (NCCL on GPUs, gloo on CPUs)."""

    rank: int
    size: int

    def share(self, rollouts: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
        """The longest first, each to the rank with the fewest tokens."""
        return deal(rollouts, self.size)[self.rank]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """One call for all tensors."""
        import torch
        import torch.distributed as dist

        if tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """By pickling: small values only."""
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


def deal(rollouts: Sequence[Sequence[Row]], size: int) -> list[list[Sequence[Row]]]:
    """Rollouts for each of ``size`` ranks, in the order in which they came."""
    lengths = [sum(len(row.ids) for row in rows) for rows in rollouts]
    loads, parts = [0] * size, [list[int]() for _ in range(size)]
    for index in sorted(range(len(rollouts)), key=lambda i: (-lengths[i], i)):
        rank = min(range(size), key=lambda r: (loads[r], r))
        loads[rank] += lengths[index]
        parts[rank].append(index)
    return [[rollouts[index] for index in sorted(part)] for part in parts]


def join(device: str = "cpu") -> Ranks:
    """The group that the environment describes; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Alone()
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=LIMIT)
    return Group(dist.get_rank(), size)


def rank() -> int:
    """Of this process, as its environment says."""
    return int(os.environ.get("RANK", "0"))


def release() -> None:
    """Rank 0 is done: the others may end. Nothing to do without any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _call("stop", None)


@dataclass(slots=True)
class RankedLearner:
    """Rank 0's learner: every call is made on all ranks. See :class:`trainers.protocol.Learner`."""

    inner: RankLearner
    lock: RLock = field(default_factory=RLock)
    """Calls of all ranks come one at a time, from whichever thread: learning, or sending weights. The model's, so that
    nobody waits for it while holding this one."""

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """One step by all ranks."""
        with self.lock:
            _call("update", list(rows))
            return self.inner.update(rows)

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised step by all ranks."""
        with self.lock:
            _call("imitate", list(rows))
            return self.inner.imitate(rows)

    def save(self, folder: Path) -> None:
        """All ranks take part; rank 0 writes."""
        with self.lock:
            _call("save", folder)
            self.inner.save(folder)

    def load(self, folder: Path) -> None:
        """Every rank reads the folder, which all must see."""
        with self.lock:
            _call("load", folder)
            self.inner.load(folder)

    def state(self) -> dict[str, Tensor]:
        """Every rank gives its parts; whole tensors on the CPU."""
        with self.lock:
            _call("state", None)
            return dict(self.inner.state())


def serve(learner: RankLearner) -> None:
    """Make the calls of rank 0's learner until it stops."""
    calls: Mapping[str, Callable[[Any], object]] = {
        "update": learner.update,
        "imitate": learner.imitate,
        "save": learner.save,
        "load": learner.load,
        "state": lambda _: deque(learner.state(), maxlen=0),
    }
    while True:
        name, argument = _hear()
        if name == "stop":
            return
        calls[name](argument)


def _call(name: str, argument: Any) -> None:
    import torch.distributed as dist

    dist.broadcast_object_list([name, argument], src=0)


def _hear() -> tuple[str, Any]:
    import torch.distributed as dist

    heard: list[Any] = [None, None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0], heard[1]
