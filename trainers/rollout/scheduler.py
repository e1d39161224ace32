"""Plays a list of episodes: in fixed waves, in bounded numbers, each one stored before it counts.

A *wave* is a fixed slice of the requests whose turns are generated together, in continuous batches of virtual time: an
episode joins the running batch when its command is through, and no turn waits for the longest turn of its wave. The
batches depend on the requests and the weights alone, never on timing. Several waves are in flight: while one generates,
the commands of the others run, and patches of waves that are through are graded. At most ``waves * wave`` episode
sandboxes live at a time. Groups that stay in flight over updates are the business of :mod:`trainers.rollout.flow`.

* **Stored before counted** (invariant 10). A finished trajectory is on disk before anybody is told of it.
* **Read back, not played again.** A stored trajectory is taken by its key. Where others of its wave are missing, its
  token requests are made once more, without a sandbox: the batch has the shape that it had, so resuming is exact.
* **Infrastructure is not the policy** (invariant 6). The player retries it in a fresh sandbox; what still failed is
  kept, to be masked. When more than ``max_infra`` of the episodes end so, the run stops with the reason, and those
  failures are not kept: a resumed run plays them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent.policy import Policy
from agent.trajectory import Key, Outcome, Trajectory
from sandbox.task import Task
from trainers.components import Player, Wave
from trainers.errors import TrainingError
from trainers.loop_config import TrainConfig


class Request(NamedTuple):
    """One episode to play."""

    task: Task
    key: Key


class Shelf(Protocol):
    """Where finished trajectories go, and come back from after a kill."""

    def get(self, key: Key) -> Trajectory | None:
        """The trajectory stored under a key."""
        ...

    def append(self, trajectory: Trajectory) -> None:
        """On disk when this returns."""
        ...


class Watch(Protocol):
    """Is told what happens, for the display."""

    def started(self, key: Key) -> None:
        """An episode is being played."""
        ...

    def finished(self, trajectory: Trajectory) -> None:
        """Stored and counted, whether played now or read back."""
        ...


@dataclass(slots=True)
class Scheduler:
    """Plays requests with one player under the limits of a config."""

    player: Player
    config: TrainConfig
    watch: Watch

    async def play(
        self, requests: Sequence[Request], shelf: Shelf, wave: Callable[[int], Wave], size: int
    ) -> list[Trajectory]:
        """Trajectories of the requests, in their order. ``wave`` opens a wave of n episodes, ``size`` bounds n.

        Raises :class:`TrainingError` when too many end by infrastructure; what finished is on the shelf.
        """
        batch = _Batch(self, shelf, wave)
        for request in requests:
            if found := shelf.get(request.key):
                batch.done[request.key] = found
                self.watch.finished(found)
        await batch.play([requests[i : i + size] for i in range(0, len(requests), size)])
        batch.settle(len(requests))
        return [batch.done[request.key] for request in requests]


@dataclass(slots=True)
class _Batch:
    """One call of :meth:`Scheduler.play`."""

    owner: Scheduler
    shelf: Shelf
    wave: Callable[[int], Wave]
    done: dict[Key, Trajectory] = field(default_factory=dict[Key, Trajectory])
    failed: list[Trajectory] = field(default_factory=list[Trajectory])
    """Ended by infrastructure: kept at the end, if the others are enough to go on with."""

    async def play(self, chunks: Sequence[Sequence[Request]]) -> None:
        """Play what is missing, a bounded number of waves in flight."""
        room = asyncio.Semaphore(self.owner.config.waves)
        try:
            async with asyncio.TaskGroup() as group:
                for chunk in (chunk for chunk in chunks if any(r.key not in self.done for r in chunk)):
                    await room.acquire()
                    group.create_task(self._one_wave(chunk, room))
        except* Exception as errors:
            raise _first(errors) from None

    async def _one_wave(self, chunk: Sequence[Request], room: asyncio.Semaphore) -> None:
        """One wave; it makes room for the next when its last episode has sampled, graded or not."""
        wave, sampling = self.wave(len(chunk)), [request.key for request in chunk]

        def leave(key: Key) -> None:
            if key in sampling:
                sampling.remove(key)
                wave.leave(key)
                if not sampling:
                    room.release()

        async with asyncio.TaskGroup() as group:
            for request in chunk:
                group.create_task(self._episode(request, wave.policy, leave))

    async def _episode(self, request: Request, policy: Policy, leave: Callable[[Key], None]) -> None:
        try:
            if stored := self.done.get(request.key):
                return await _echo(stored, policy)
            self.owner.watch.started(request.key)
            trajectory = await self.owner.player.play(request.task, policy, request.key, lambda: leave(request.key))
        finally:
            leave(request.key)
        if trajectory.outcome is Outcome.INFRA:
            self.failed.append(trajectory)
        else:
            self._keep(trajectory)

    def _keep(self, trajectory: Trajectory) -> None:
        self.shelf.append(trajectory)
        self.done[trajectory.key] = trajectory
        self.owner.watch.finished(trajectory)

    def settle(self, requests: int) -> None:
        """Keep what ended by infrastructure, to be masked, unless it is too much to go on."""
        if len(self.failed) > self.owner.config.max_infra * requests:
            raise TrainingError(
                f"{len(self.failed)} of {requests} episodes ended by infrastructure "
                f"({self.failed[0].detail or 'no detail'}); mend it ('dojo doctor' helps) and go on with "
                "'dojo train --resume': nothing finished is lost"
            )
        for trajectory in self.failed:
            self._keep(trajectory)


async def _echo(trajectory: Trajectory, policy: Policy) -> None:
    """Make the token requests of a stored episode once more; the samples are known, the batch keeps its shape."""
    context: list[int] = []
    for index, turn in enumerate(trajectory.turns):
        context = [*turn.prompt] if turn.fork else [*context, *turn.prompt]
        await policy.sample(context, trajectory.key, index, len(turn.sampled))
        context += turn.sampled


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The first error of a group: one failure stops the batch, the others follow from it."""
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
