"""The warm start: scripted episodes as batches in a fixed order.

Episodes are shuffled by the seed, cut into windows, and sorted by length inside a window, so that rows of one batch are
about equally long; then the batches of a window are shuffled again. The order is a function of (rows, config, seed) and
batch ``i`` of ``i`` alone: a run that was killed continues with the next batch. When there are fewer episodes than the
config wants to see, they come again in another order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.trajectory import Trajectory
from trainers.config import SftConfig
from trainers.protocol import Row


def demonstration(trajectory: Trajectory) -> list[Row]:
    """Rows of one scripted episode: what it "sampled" is what is to be imitated, without credit."""
    return [
        Row(
            ids=segment.ids,
            mask=segment.mask,
            logprobs=(0.0,) * len(segment.ids),
            advantages=(0.0,) * len(segment.ids),
            rollout=f"{trajectory.task}-{trajectory.key}",
            group=trajectory.task,
        )
        for segment in trajectory.segments()
    ]


@dataclass(slots=True)
class Demonstrations:
    """See :class:`trainers.components.WarmStart`."""

    episodes: Sequence[Sequence[Row]]
    """Rows of each episode."""
    config: SftConfig
    seed: int = 0
    _order: list[list[int]] = field(init=False, default_factory=list[list[int]])

    def __post_init__(self) -> None:
        epoch = 0
        while self.episodes and len(self._order) < self._wanted:
            self._order += self._epoch(epoch)
            epoch += 1
        del self._order[self._wanted :]

    @property
    def minutes(self) -> float | None:
        return self.config.minutes

    @property
    def _wanted(self) -> int:
        return -(-self.config.examples // self.config.batch)

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, index: int) -> Sequence[Row]:
        """The rows of one supervised step."""
        return [row for episode in self._order[index] for row in self.episodes[episode]]

    def _epoch(self, epoch: int) -> list[list[int]]:
        """All episodes once, in batches."""
        chance = random.Random(f"{self.seed}/warm-start/{epoch}")
        order = list(range(len(self.episodes)))
        chance.shuffle(order)
        size, batches = self.config.batch, list[list[int]]()
        for start in range(0, len(order), self.config.window):
            window = sorted(order[start : start + self.config.window], key=self._length)
            parts = [window[i : i + size] for i in range(0, len(window), size)]
            chance.shuffle(parts)
            batches += parts
        return batches

    def _length(self, episode: int) -> int:
        return sum(len(row.ids) for row in self.episodes[episode])
