"""The player of real episodes: :class:`agent.scaffold.Scaffold` under the limits of a run.

Sandboxes that start together are bounded (a burst of starts is what overloads an engine), gradings too, and a grading
that infrastructure ended is made again in another fresh sandbox before the episode is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.config import AgentConfig
from agent.facts import SideStore
from agent.policy import Policy
from agent.scaffold import Grader, Scaffold
from agent.trajectory import Key, Trajectory
from sandbox.protocol import Backend, Limits, Sandbox, Spec
from sandbox.task import Prepared, Status, Task, TaskSource, Verdict


@dataclass(frozen=True, slots=True)
class EpisodePlayer:
    """Plays episodes with a scaffold. Build it with :func:`player`."""

    scaffold: Scaffold

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        """See :class:`trainers.components.Player`."""
        return await self.scaffold.play_with_retries(task, policy, key, sampled)

    async def close(self) -> None:
        """Close the backend and every sandbox of it."""
        await self.scaffold.close()


def player(
    agent: AgentConfig,
    backend: Backend,
    source: TaskSource,
    grader: Grader,
    *,
    starts: int,
    graders: int,
    limits: Limits | None = None,
    side: SideStore | None = None,
) -> EpisodePlayer:
    """A player on ``backend``: at most ``starts`` sandboxes starting and ``graders`` patches graded at a time."""
    bounded = BoundedStarts(backend, starts)
    patient = PatientGrader(grader, graders, agent.retries)
    return EpisodePlayer(Scaffold(agent, bounded, source, patient, limits or Limits(), side))


@dataclass(slots=True)
class BoundedStarts:
    """A backend that starts a bounded number of sandboxes at the same time."""

    inner: Backend
    starts: int
    name: str = field(init=False)
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.inner.name
        self._free = asyncio.Semaphore(self.starts)

    async def open(self, spec: Spec) -> Sandbox:
        """A fresh sandbox, when it is its turn."""
        async with self._free:
            return await self.inner.open(spec)

    async def close(self) -> None:
        """Close the backend."""
        await self.inner.close()


@dataclass(slots=True)
class PatientGrader:
    """Grades a bounded number of patches at a time, and again when infrastructure ended a grading."""

    inner: Grader
    at_once: int
    retries: int
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.at_once)

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        async with self._free:
            verdict = await self.inner(prepared, patch)
            for _ in range(self.retries):
                if verdict.status is not Status.INFRA:
                    break
                verdict = await self.inner(prepared, patch)
            return verdict
