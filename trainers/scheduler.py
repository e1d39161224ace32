"""Plays a list of episodes: in fixed waves, in bounded numbers, each one stored before it counts.

A *wave* is a fixed slice of the requests whose turns are generated together, in lockstep; its batches depend on the
requests and the weights alone, never on timing. Several waves are in flight: while one generates, the commands of the
others run, and patches of waves that are through are graded. At most ``waves * wave`` episode sandboxes live at a time.

* **Stored before counted** (invariant 10). A finished trajectory is on disk before anybody is told of it.
* **Read back, not played again.** A stored trajectory is taken by its key. Where others of its wave are missing, its
  token requests are made once more, without a sandbox: the batch has the shape that it had, so resuming is exact.
* **Infrastructure is not the policy** (invariant 6). An episode that ended by infrastructure is played again in a fresh
  sandbox, ``retries`` times, then left to be masked; a failure that the same sampled tokens cause again is the policy's
  own. When more than ``max_infra`` of the episodes end so, the run stops with the reason instead of learning on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent.policy import Policy
from agent.trajectory import End, Key, Outcome, Trajectory
from sandbox.task import Failure, Status, Task, Verdict
from trainers.components import Player, Wave
from trainers.errors import TrainingError
from trainers.loop_config import TrainConfig


class Request(NamedTuple):
    """One episode to play."""

    task: Task
    key: Key


class Shelf(Protocol):
    """Where finished trajectories go, and come back from after a kill."""

    def get(self, key: Key) -> Trajectory | None: ...

    def append(self, trajectory: Trajectory) -> None:
        """On disk when this returns."""
        ...


class Watch(Protocol):
    """Is told what happens, for the display."""

    def started(self, key: Key) -> None: ...

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
        left = requests
        for _ in range(self.config.retries + 1):
            await batch.waves([left[i : i + size] for i in range(0, len(left), size)])
            left = [request for request in requests if request.key in batch.failed]
        batch.give_up(len(requests))
        return [batch.done[request.key] for request in requests]


@dataclass(slots=True)
class _Batch:
    """One call of :meth:`Scheduler.play`."""

    owner: Scheduler
    shelf: Shelf
    wave: Callable[[int], Wave]
    done: dict[Key, Trajectory] = field(default_factory=dict[Key, Trajectory])
    failed: dict[Key, Trajectory] = field(default_factory=dict[Key, Trajectory])
    """Ended by infrastructure, and may be played again."""

    async def waves(self, chunks: Sequence[Sequence[Request]]) -> None:
        """Play what is missing, ``waves`` waves in flight; a wave makes room when its last episode has sampled."""
        room = asyncio.Semaphore(self.owner.config.waves)
        graders = asyncio.Semaphore(self.owner.config.graders)
        try:
            async with asyncio.TaskGroup() as group:
                for chunk in (chunk for chunk in chunks if any(r.key not in self.done for r in chunk)):
                    await room.acquire()
                    group.create_task(self._one_wave(chunk, room, graders))
        except* Exception as errors:
            raise _first(errors) from None

    async def _one_wave(self, chunk: Sequence[Request], room: asyncio.Semaphore, graders: asyncio.Semaphore) -> None:
        wave = self.wave(len(chunk))
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(self._sampled(request, wave)) for request in chunk]
            for task in playing:
                task.add_done_callback(lambda _: all(t.done() for t in playing) and room.release())
            for request, task in zip(chunk, playing, strict=True):
                group.create_task(self._graded(request, task, graders))

    async def _sampled(self, request: Request, wave: Wave) -> Trajectory:
        """The part of an episode that samples."""
        try:
            if stored := self.done.get(request.key):
                await _echo(stored, wave.policy)
                return stored
            self.owner.watch.started(request.key)
            return await self.owner.player.play(request.task, wave.policy, request.key)
        finally:
            wave.leave(request.key)

    async def _graded(self, request: Request, playing: asyncio.Task[Trajectory], graders: asyncio.Semaphore) -> None:
        trajectory = await playing
        if request.key in self.done:
            return
        async with graders:
            trajectory = await self.owner.player.grade(request.task, trajectory)
        trajectory = blame(request.task, self.failed.get(request.key), trajectory)
        if trajectory.outcome is Outcome.INFRA:
            self.failed[request.key] = trajectory
        else:
            self._keep(trajectory)

    def _keep(self, trajectory: Trajectory) -> None:
        self.failed.pop(trajectory.key, None)
        self.shelf.append(trajectory)
        self.done[trajectory.key] = trajectory
        self.owner.watch.finished(trajectory)

    def give_up(self, requests: int) -> None:
        """Keep what still fails as masked, unless it is too much to go on."""
        share = len(self.failed) / requests
        if share > self.owner.config.max_infra:
            why = next(iter(self.failed.values())).detail or "no detail"
            raise TrainingError(
                f"{len(self.failed)} of {requests} episodes ended by infrastructure ({why}); mend it "
                "('dojo doctor' helps) and go on with 'dojo train --resume': nothing finished is lost"
            )
        for trajectory in list(self.failed.values()):
            self._keep(trajectory)


def blame(task: Task, earlier: Trajectory | None, now: Trajectory) -> Trajectory:
    """``now``, or ``now`` as the policy's own failure when the same sampled tokens broke a fresh sandbox the same way.

    An engine's failure (``INFRA``) is never the policy's, nor is a failure before the first action.
    """
    kind = _kind(now)
    if earlier is None or not now.turns or kind in (None, Failure.INFRA) or _kind(earlier) is not kind:
        return now
    if [turn.sampled for turn in earlier.turns] != [turn.sampled for turn in now.turns]:
        return now
    detail = f"the same actions caused it again: {now.detail}"
    change = {"failure": Failure.POLICY, "detail": detail}
    if kind is Failure.GRADER:
        results = dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS), False)
        return now.model_copy(
            update={**change, "verdict": Verdict(status=Status.FAILED, results=results, detail=detail)}
        ).seal()
    return now.model_copy(update={**change, "end": End.POLICY}).seal()


def _kind(trajectory: Trajectory) -> Failure | None:
    """Which infrastructure ended the episode; ``None``: none did."""
    if trajectory.outcome is not Outcome.INFRA:
        return None
    return trajectory.failure or Failure.GRADER


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
