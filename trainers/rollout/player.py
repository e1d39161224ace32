"""The player of real episodes: :class:`agent.scaffold.Scaffold` under the limits of a run.

Sandboxes that start together are bounded (a burst of starts is what overloads an engine), gradings too. What
infrastructure ended is retried by the scaffold, in fresh sandboxes.
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
from sandbox.network import Network
from sandbox.protocol import Backend, Limits, Sandbox, Spec
from sandbox.task import Prepared, Task, TaskSource, Verdict


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
    network: Network = "none",
    side: SideStore | None = None,
) -> EpisodePlayer:
    """A player on ``backend``: at most ``starts`` sandboxes starting and ``graders`` patches graded at a time."""
    bounded, graded = BoundedStarts(backend, starts), BoundedGrader(grader, graders)
    return EpisodePlayer(Scaffold(agent, bounded, source, graded, limits or Limits(), side, network))


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
class BoundedGrader:
    """Grades a bounded number of patches at the same time."""

    inner: Grader
    at_once: int
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.at_once)

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        async with self._free:
            return await self.inner(prepared, patch)
