"""Episodes a minute with a scripted policy: everything of a rollout but the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from agent.config import AgentConfig
from agent.scripted import scripted
from agent.trajectory import Key, Trajectory
from benchmarks.speed.measure import Measured, rate
from sandbox.task import Task, TaskSource
from trainers.rollout.player import EpisodePlayer


async def measure(
    runs: int, tasks: Sequence[Task], source: TaskSource, player: EpisodePlayer, config: AgentConfig, at_once: int
) -> list[Measured]:
    """Episodes of the ``mixed`` script (gold or a broken function), played and graded, ``at_once`` at a time."""
    prepared = {task.instance_id: await asyncio.to_thread(source.prepare, task) for task in tasks}
    room = asyncio.Semaphore(at_once)

    async def one(task: Task, key: Key) -> Trajectory:
        async with room:
            policy = scripted("mixed", prepared[task.instance_id], config)
            return await player.play(task, policy, key, lambda: None)

    minutes = list[float]()
    try:
        for run in range(runs):
            began = time.perf_counter()
            keys = [(t, Key(seed=run, step=0, prompt=i, sample=s)) for i, t in enumerate(tasks) for s in range(2)]
            await asyncio.gather(*(one(task, key) for task, key in keys))
            minutes.append((time.perf_counter() - began) / 60)
    finally:
        await player.close()
    where = player.scaffold.backend.name
    note = f"{where}, {2 * len(tasks)} episodes of {len(tasks)} tasks a run, graded, {at_once} at once"
    return [rate("episodes with a scripted policy", "episodes/min", [2.0 * len(tasks)] * runs, minutes, note)]
