"""Play and grade episodes without training: with a scripted policy, or with a model and its engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.chat import ByteTokenizer, Chat
from agent.store import Store
from agent.trajectory import Key, Trajectory
from dojo import build
from dojo.config import Config
from dojo.errors import UserError
from dojo.tell import say
from sandbox.task import Task
from trainers.config import ModelConfig

AT_ONCE = 4
"""Scripted episodes played at the same time."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """``samples`` episodes of each task under ``policy``: ``scripted:NAME``, ``model``, a run or a checkpoint."""

    config: Config
    policy: str
    tasks: Sequence[Task]
    samples: int
    out: Path | None = None
    """Where finished episodes are kept, if anywhere."""
    show: Callable[[Trajectory], None] = lambda _: None
    """Told of every episode: of a scripted one as it ends."""

    def play(self) -> list[Trajectory]:
        """Raises :class:`UserError` when there is no task to play or nothing to play it with."""
        if not self.tasks:
            raise UserError(
                "no task is left after tasks.rows, tasks.level and the split; 'dojo tasks list' shows what there is"
            )
        return asyncio.run(self._scripted() if self.policy.startswith("scripted:") else self._sampled())

    async def _scripted(self) -> list[Trajectory]:
        from agent.scripted import scripted

        player, store = build.episode_player(self.config, say), Store(self.out) if self.out else None
        chat = spoken(self.config.model)
        source, room = player.scaffold.source, asyncio.Semaphore(AT_ONCE)

        async def one(task: Task, key: Key) -> Trajectory:
            async with room:
                prepared = await asyncio.to_thread(source.prepare, task)
                double = scripted(self.policy.partition(":")[2], prepared, self.config.agent, chat)
                done = await player.play(task, double, key, lambda: None)
            if store:
                store.append(done)
            self.show(done)
            return done

        try:
            keys = ((task, ordinal, k) for ordinal, task in enumerate(self.tasks) for k in range(self.samples))
            return await asyncio.gather(
                *(one(task, Key(seed=self.config.seed, step=-1, prompt=i, sample=k)) for task, i, k in keys)
            )
        finally:
            await player.close()

    async def _sampled(self) -> list[Trajectory]:
        from trainers.engines.pairs import check_sampling
        from trainers.record.display import Display
        from trainers.rollout.evaluate import evaluate
        from trainers.rollout.scheduler import Scheduler

        check_sampling(self.config.engine, self.config.model)
        wave = self.samples * max(1, self.config.eval.wave // self.samples)
        settings = self.config.eval.model_copy(update={"samples": self.samples, "wave": wave})
        with TemporaryDirectory(prefix="repodojo-") as scratch:
            player = build.episode_player(self.config, say)
            machine = build.machine(self.config, Path(scratch) / "vllm.log")
            try:
                load_weights(machine.learner, self.policy)
                with Display(Path(scratch) / "log.txt") as display, machine.averaged():
                    scheduler = Scheduler(player, self.config.train, display)
                    path = self.out or Path(scratch) / "played.jsonl"
                    played = await evaluate(scheduler, machine, self.tasks, self.config.seed, settings, path)
            finally:
                await player.close()
                machine.engine.close()
        for trajectory in played:
            self.show(trajectory)
        return played


def spoken(model: ModelConfig) -> Chat:
    """The contexts of a scripted policy: of the model's own tokens, so that the model can learn from what it plays and
    budgets mean what they mean to it; of bytes where the embedded model was not fetched yet."""
    from trainers.config import EMBEDDED
    from trainers.model.load import check, missing
    from trainers.sampler import chat

    check(model)
    if model.name == EMBEDDED and (reason := missing()):
        say(f"the scripted policy speaks bytes, not the model's tokens: {reason}")
        return Chat(ByteTokenizer())
    return chat(model)


def load_weights(learner: Any, policy: str) -> None:
    """Load a checkpoint or the newest of a run; ``model`` keeps the weights as they come."""
    from trainers.record import checkpoint

    if policy == "model":
        return
    folder = Path(policy)
    found = folder if (folder / "state.json").is_file() else checkpoint.latest(folder)
    if found is None:
        raise UserError(f"'{policy}' is neither model, scripted:NAME, a run folder with a checkpoint, nor a checkpoint")
    learner.load(found)
