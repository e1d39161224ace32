"""Wall time of the same number of steps in ``sync`` and ``async`` mode, with scripted episodes of long-tailed length.

Episodes are those of the game in memory and sleep as long as a log-normal draw of their key says; the update sleeps,
too. So what is compared is the scheduling alone.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from agent.policy import Policy
from agent.trajectory import Key, Trajectory
from benchmarks.speed.measure import Measured, ratio
from sandbox.task import Task
from trainers.components import Components, Machine
from trainers.doubles import Game, OutcomeScorer, TableEngine, TableLearner, tasks
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.rollout.simulate import long_tailed

MEAN, UPDATE, STEPS = 0.1, 0.1, 12
PROMPTS, GROUP, STALENESS = 4, 4, 2


@dataclass(slots=True)
class Sleepy(Game):
    """The game, with episodes that last."""

    length: Callable[[Key], float] = field(default_factory=lambda: long_tailed(MEAN))

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        """One episode that sleeps first."""
        await asyncio.sleep(self.length(key))
        return await Game.play(self, task, policy, key, sampled)


def once(mode: str) -> float:
    """Wall seconds of a run's training phase."""
    engine = TableEngine()
    parts = Components(
        train=tasks([f"t{i}" for i in range(40)]),
        heldout=[],
        player=Sleepy(),
        scorer=OutcomeScorer(),
        machine=lambda: Machine(engine, TableLearner(engine, update_s=UPDATE)),
    )
    given = {"mode": mode, "staleness": STALENESS if mode == "async" else None}
    sizes = {"prompts": PROMPTS, "group": GROUP, "wave": 4 * PROMPTS * GROUP, "waves": 1}
    config = TrainConfig.model_validate({"steps": STEPS, "minutes": None, "checkpoint_every": 1000, **sizes, **given})
    settings = Settings(0, config, EvalConfig.model_validate({"stages": ()}), "seed = 0\n", picture=False)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        train(parts, settings, Path(folder) / "run", console=Console(quiet=True))
        return time.perf_counter() - began


def measure(runs: int) -> list[Measured]:
    """Both modes in turn."""
    modes = ("sync", "async")
    seen: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(runs):
        for mode in modes:
            seen[mode].append(once(mode))
    note = f"{STEPS} steps of {PROMPTS} x {GROUP} episodes, mean {MEAN} s, log-normal, update {UPDATE} s"
    found = {mode: Measured(f"training, {mode}", "s", tuple(seen[mode]), note) for mode in modes}
    name = f"training, async at staleness {STALENESS} against sync: wall time"
    return [*found.values(), ratio(name, found["sync"], found["async"])]
