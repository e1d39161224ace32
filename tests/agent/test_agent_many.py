"""Many episodes at once on one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent_stage import CHAT, Stage, key

from agent.policy import Sampled
from agent.scripted import ANYWHERE, ScriptedPolicy, scripted
from agent.trajectory import Key, Trajectory


@dataclass
class Lockstep:
    """Answers only when every living episode has asked: what a batching engine does."""

    policies: dict[int, ScriptedPolicy]
    size: int
    waiting: int = 0
    waves: int = 0
    gate: asyncio.Event | None = None
    name: str = "lockstep"

    def open(self, messages: object) -> tuple[int, ...]:
        return CHAT.open(messages)  # type: ignore[arg-type]

    def reply(self, messages: object, cut: bool) -> tuple[int, ...]:
        return CHAT.reply(messages, cut)  # type: ignore[arg-type]

    async def sample(self, context: tuple[int, ...], key: Key, turn: int, max_tokens: int) -> Sampled:
        self.gate = self.gate or asyncio.Event()
        gate, self.waiting = self.gate, self.waiting + 1
        self.release()
        await gate.wait()
        return await self.policies[key.sample].sample(context, key, turn, max_tokens)

    def leave(self) -> None:
        self.size -= 1
        self.release()

    def release(self) -> None:
        if self.gate and self.waiting >= self.size:
            self.gate.set()
            self.gate, self.waiting, self.waves = None, 0, self.waves + 1


def test_256_episodes_run_in_lockstep_on_one_thread(stage: Stage) -> None:
    async def run() -> list[Trajectory]:
        scaffold = stage.scaffold()
        names = ANYWHERE
        policies = {i: scripted(names[i % len(names)], stage.prepared, scaffold.config) for i in range(256)}
        engine = Lockstep(policies, 256)

        async def one(sample: int) -> Trajectory:
            leave: Callable[[], None] = engine.leave
            return await scaffold.play_with_retries(stage.prepared.task, engine, key(sample), leave)

        # The memory backend and the preparation of a task may use a helper thread; episodes must not have one each.
        before = threading.active_count()
        done = await asyncio.gather(*(one(sample) for sample in range(256)))
        assert threading.active_count() - before <= 4
        assert engine.waves <= 6
        return done

    done = asyncio.run(run())
    alone = [asyncio.run(stage.play(ANYWHERE[i % len(ANYWHERE)], i)) for i in range(16)]
    assert [t.model_copy(update={"policy": ""}).seal() for t in done[:16]] == [
        t.model_copy(update={"policy": ""}).seal() for t in alone
    ]
