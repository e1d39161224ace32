"""The frozen order of prompts, and the frontier in it.

A run's prompts are numbered 0, 1, 2, ...: epoch by epoch, each epoch a permutation of the training tasks drawn from
(seed, epoch) alone. What a run has used is then one number, the *frontier*: the first ordinal not yet consumed. A
dispatch cursor would skip prompts that were in flight when a run was killed; a frontier cannot.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Prompt(NamedTuple):
    """One place in the order."""

    ordinal: int
    task: int
    """Index of the training task."""


@dataclass(frozen=True, slots=True)
class Order:
    """Permutations of ``tasks`` training tasks; with ``pool``, of the first so many of the frozen order only."""

    seed: int
    tasks: int
    pool: int | None = None

    @property
    def size(self) -> int:
        """Prompts of one epoch."""
        return min(self.tasks, self.pool or self.tasks)

    def epoch(self, ordinal: int) -> int:
        return ordinal // self.size

    def task(self, ordinal: int) -> int:
        """Index of the task at an ordinal."""
        epoch, place = divmod(ordinal, self.size)
        pool = _permutation(f"{self.seed}/pool", self.tasks)[: self.size]
        return pool[_permutation(f"{self.seed}/{epoch}", self.size)[place]]

    def take(self, frontier: int, count: int, rests: Mapping[int, int]) -> tuple[list[Prompt], int]:
        """The next ``count`` prompts and the frontier behind them.

        ``rests`` maps a task to the first epoch that may use it again; a resting prompt is passed over, consumed.
        """
        taken: list[Prompt] = []
        while len(taken) < count:
            task = self.task(frontier)
            if rests.get(task, 0) <= self.epoch(frontier):
                taken.append(Prompt(frontier, task))
            frontier += 1
        return taken, frontier


def _permutation(key: str, n: int) -> list[int]:
    """A permutation of range(n) that depends on the key alone (a string seed is hashed by SHA-512)."""
    order = list(range(n))
    random.Random(key).shuffle(order)
    return order
