"""Many episodes at once on one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent_stage import CHAT, Stage, key

from agent.doubles import DyingBackend
from agent.policy import Message, Sampled
from agent.scripted import ANYWHERE, ScriptedPolicy, scripted
from agent.trajectory import End, Key, Trajectory
from sandbox.memory import MemoryBackend
from sandbox.pool import Pool
from sandbox.protocol import Sandbox, Spec


@dataclass
class Lockstep:
    """Answers only when every living episode has asked: what a batching engine does."""

    policies: dict[int, ScriptedPolicy]
    size: int
    waiting: int = 0
    waves: int = 0
    gate: asyncio.Event | None = None
    name: str = "lockstep"

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return CHAT.open(messages)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        return CHAT.reply(messages, cut)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
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


class Counting(DyingBackend):
    """Its sandboxes never die; the most that were open at a time is known. Behind a pool, which uses none again."""

    most = 0

    async def open(self, spec: Spec) -> Sandbox:
        sandbox = await super().open(spec)
        self.most = max(self.most, len(self.live))
        return sandbox

    def kind(self, spec: Spec) -> None: ...

    async def pack(self, spec: Spec) -> bytes:
        return b""


def test_a_full_pool_makes_episodes_wait_and_fails_none(stage: Stage) -> None:
    async def run() -> list[Trajectory]:
        pool = Pool(counted, live=3, starts=2, execs=2)
        try:
            scaffold = stage.scaffold(pool)
            policy = scripted("gold", stage.prepared, scaffold.config)
            return await asyncio.gather(*(scaffold.play(stage.prepared.task, policy, key(i)) for i in range(24)))
        finally:
            await pool.close()

    counted = Counting(MemoryBackend(), verb="")
    played = asyncio.run(run())
    assert {t.end for t in played} == {End.SUBMITTED} and {t.failure for t in played} == {None}
    assert counted.most == 3 and counted.count == 24 and not counted.live


def test_episodes_that_are_cancelled_while_they_wait_leave_room_for_others(stage: Stage) -> None:
    class Slow(ScriptedPolicy):
        async def sample(self, context: object, key: Key, turn: int, max_tokens: int) -> Sampled:
            await asyncio.Event().wait()
            raise AssertionError

    async def run() -> Trajectory:
        pool = Pool(counted, live=2)
        try:
            scaffold = stage.scaffold(pool)
            slow = Slow("slow", lambda _, turn: "", CHAT)
            stuck = [asyncio.create_task(scaffold.play(stage.prepared.task, slow, key(i))) for i in range(6)]
            while len(counted.live) < 2:
                await asyncio.sleep(0)
            for task in stuck:
                task.cancel()
            ended = await asyncio.gather(*stuck, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended) and not counted.live
            return await scaffold.play(
                stage.prepared.task, scripted("quitter", stage.prepared, scaffold.config), key(9)
            )
        finally:
            await pool.close()

    counted = Counting(MemoryBackend(), verb="")
    assert asyncio.run(run()).end is End.SUBMITTED and not counted.live
