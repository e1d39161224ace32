"""The scheduler on a fake clock: thousands of episodes of any length, in the time that their bookkeeping takes.

:class:`VirtualLoop` is an asyncio event loop whose time stands still while something can run and jumps to the next
timer when nothing can. The real :class:`trainers.rollout.flow.Flow` runs on it unchanged, with episodes that sleep: so
what a simulation shows of bounds and throughput is the scheduler's own doing.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Any

from agent.policy import Message, Policy, Sampled
from agent.trajectory import Key, Trajectory
from sandbox.task import Task
from trainers.components import FreeWave
from trainers.doubles import OutcomeScorer, episode, tasks
from trainers.loop_config import TrainConfig
from trainers.rollout.flow import Flow, Parts
from trainers.rollout.order import Order
from trainers.rollout.sources import staleness


class _Jump:
    """A selector that lets virtual time pass instead of waiting."""

    def __init__(self) -> None:
        self.now = 0.0
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready; when nothing is, the clock jumps by ``timeout``. Raises when nothing ever will be."""
        ready = self._inner.select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits and no timer is set: the simulation is deadlocked")
        if not ready and timeout:
            self.now += timeout
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. Nothing in it may wait for another thread."""

    def __init__(self) -> None:
        self._jump: Any = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jump.now


@dataclass(slots=True)
class Sleeper:
    """Plays episodes that last as long as ``length`` says, in four turns of equal length."""

    length: Callable[[Key], float]
    live: int = 0
    most: int = 0
    """Most episodes that were live at a time."""
    work: float = 0.0
    """Seconds of all finished episodes."""

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        """One episode; whether it resolves its task is drawn by its key."""
        self.live += 1
        self.most = max(self.most, self.live)
        try:
            turns: list[Sampled] = []
            for turn in range(4):
                await asyncio.sleep(self.length(key) / 4)
                turns.append(await policy.sample((), key, turn, 1))
        finally:
            self.live -= 1
        sampled()
        self.work += self.length(key)
        return episode(task, key, policy.name, turns, solved=random.Random(f"{key}").random() < 0.5)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Versioned:
    """A policy that samples one token and says which weights it had."""

    version: int = 0
    name: str = "versioned"

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return ()

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        return ()

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        return Sampled(ids=(1,), logprobs=(0.0,), text="1", cut=False, version=self.version)


def long_tailed(mean: float, spread: float = 1.0) -> Callable[[Key], float]:
    """Log-normal lengths of a mean in seconds: at ``spread`` 1 one episode in a hundred lasts six times the mean."""
    return lambda key: mean * exp(random.Random(f"length {key}").gauss(-spread * spread / 2, spread))


@dataclass(slots=True)
class Memory:
    """A shelf without a disk."""

    kept: dict[int, list[Trajectory]] = field(default_factory=dict[int, list[Trajectory]])

    def append(self, trajectory: Trajectory) -> None:
        self.kept.setdefault(trajectory.key.prompt, []).append(trajectory)

    def stored(self, prompt: int) -> list[Trajectory]:
        return list(self.kept.get(prompt, ()))

    def release(self, prompt: int) -> None:
        self.kept.pop(prompt, None)


@dataclass(slots=True)
class Simulated:
    """What a simulation showed."""

    seconds: float = 0.0
    """Virtual wall time of all steps."""
    stale: list[float] = field(default_factory=list[float])
    """Greatest staleness of each step, in updates."""
    outstanding: int = 0
    """Most groups in flight, finished and unused, or being learned from."""
    live: int = 0
    """Most live episodes."""
    work: float = 0.0
    """Seconds of all episodes that were finished."""
    prompts: list[int] = field(default_factory=list[int])
    """Ordinals in the order of their use, those without contrast included."""
    cut: int = 0
    late: int = 0
    frontier: int = 0


def simulate(config: TrainConfig, steps: int, length: Callable[[Key], float], update: float) -> Simulated:
    """Run ``steps`` steps, each followed by an update of ``update`` seconds, on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_run(config, steps, Sleeper(length), update))


async def _run(config: TrainConfig, steps: int, player: Sleeper, update: float) -> Simulated:
    policy, seen = Versioned(), Simulated()
    parts = Parts(
        player=player,
        scorer=OutcomeScorer(),
        tasks=tasks([f"t{i}" for i in range(97)]),
        order=Order(0, 97),
        shelf=Memory(),
        wave=lambda _: FreeWave(policy),
        watch=_Nobody(),
        version=lambda: policy.version,
        seed=0,
    )
    flow = Flow(parts, config, 0, 0, set(), {})
    try:
        for _ in range(steps):
            taken = await flow.take()
            _note(seen, taken.flights, taken.replaced, policy.version)
            await asyncio.sleep(update)
            policy.version += 1
            flow.updated()
            seen.outstanding = max(seen.outstanding, flow.outstanding)
    finally:
        await flow.close()
    seen.seconds, seen.live, seen.work = asyncio.get_running_loop().time(), player.most, player.work
    seen.frontier = flow.frontier
    return seen


def _note(seen: Simulated, flights: Sequence[Any], replaced: Sequence[Any], version: int) -> None:
    seen.stale.append(staleness([t for flight in flights for t in flight.trajectories], version)["max"])
    seen.prompts += [prompt.ordinal for prompt in (*replaced, *(flight.prompt for flight in flights))]
    seen.cut += sum(flight.cut for flight in flights)
    seen.late += sum(flight.late for flight in flights)


class _Nobody:
    def started(self, key: Key) -> None:
        """Nobody watches."""

    def finished(self, trajectory: Trajectory) -> None:
        """Nobody watches."""
