"""Evaluation: the same tasks with the same sample keys at every stage, played and graded like training episodes.

The keys lie outside the training steps (step -1), so that an evaluation draws the same random numbers before and after,
and no evaluation changes what training draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent.trajectory import Key, Trajectory
from sandbox.task import Task
from trainers.components import FreeWave, Machine, Wave
from trainers.loop_config import EvalConfig
from trainers.rollout.scheduler import Request, Scheduler
from trainers.rollout.shelf import Shelf

STEP = -1
"""Step of every evaluation key."""


def requests(tasks: Sequence[Task], seed: int, samples: int) -> list[Request]:
    """One request a sample, samples of a task side by side."""
    return [
        Request(task, Key(seed=seed, step=STEP, prompt=ordinal, sample=sample))
        for ordinal, task in enumerate(tasks)
        for sample in range(samples)
    ]


async def evaluate(
    scheduler: Scheduler, machine: Machine, tasks: Sequence[Task], seed: int, config: EvalConfig, path: Path
) -> list[Trajectory]:
    """Play every task ``config.samples`` times into ``path``; what is stored there already is read back."""
    return await scheduler.play(
        requests(tasks, seed, config.samples), Shelf(path), waves(machine, config.temperature), config.wave
    )


def waves(machine: Machine, temperature: float) -> Callable[[int], Wave]:
    """Opens waves of the machine at a temperature."""
    if machine.wave is None:
        policy = machine.engine.policy(temperature=temperature)
        return lambda _: FreeWave(policy)
    opened = machine.wave
    return lambda size: opened(size, temperature)
