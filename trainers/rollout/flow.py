"""Groups that stay in flight over updates: the scheduler of ``async`` and ``one-step-off``.

Groups are admitted one by one as :mod:`trainers.rollout.admission` allows and as there is room for their episodes. A
group is finished when its last episode is, or when ``train.group`` of them are and the spare ones are cut. A step takes
finished groups and learns from them while the others play on; every turn carries the version of the weights that
sampled it.

* **Stored before counted** (invariant 10). What a kill leaves on disk is taken up again by its key: a finished group is
  ready at once, of an unfinished one only the missing episodes are played. The key's step is the one in which the
  prompt would be used if prompts were used in order, a function of its ordinal alone.
* **Nothing is consumed twice or skipped.** Ordinals behind the frontier that were used out of order are remembered in
  the state, with those of prompts that were passed over.
* **Bounded.** Outstanding groups by the admission rule, live episodes by ``train.waves * train.wave``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.policy import Policy
from agent.trajectory import Key, Outcome, Trajectory
from rewards.credit import Credit
from sandbox.task import Task
from trainers.components import Player, Wave
from trainers.errors import TrainingError
from trainers.learning.rows import dead
from trainers.loop_config import TrainConfig
from trainers.protocol import Scorer
from trainers.rollout.admission import Admission
from trainers.rollout.order import Order, Prompt
from trainers.rollout.scheduler import Watch


class Stored(Protocol):
    """Where finished trajectories go: :class:`trainers.rollout.shelf.Shelf`."""

    def append(self, trajectory: Trajectory) -> None:
        """On disk when this returns."""
        ...

    def stored(self, prompt: int) -> list[Trajectory]:
        """The trajectories of a prompt that was not used yet."""
        ...

    def release(self, prompt: int) -> None:
        """A prompt is used: its trajectories leave memory."""
        ...


@dataclass(slots=True)
class Flight:
    """One group, from its admission until it is learned from."""

    prompt: Prompt
    started: int
    """Step at its admission."""
    found: dict[int, Trajectory] = field(default_factory=dict[int, Trajectory])
    """Finished episodes by sample; those that infrastructure ended are not on disk yet."""
    running: dict[int, asyncio.Task[None]] = field(default_factory=dict[int, "asyncio.Task[None]"])
    cut: int = 0
    """Spare episodes that were stopped."""
    late: int = 0
    """Episodes that were abandoned at their deadline."""
    credit: Credit | None = None

    @property
    def trajectories(self) -> list[Trajectory]:
        """Finished episodes in the order of their samples."""
        return [self.found[sample] for sample in sorted(self.found)]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a flow is made of."""

    player: Player
    scorer: Scorer
    tasks: Sequence[Task]
    order: Order
    shelf: Stored
    wave: Callable[[int], Wave]
    """Opens a wave of n episodes."""
    watch: Watch
    version: Callable[[], int]
    """How often the sampling weights were updated."""
    seed: int


@dataclass(slots=True)
class Taken:
    """The groups of one step."""

    flights: list[Flight]
    replaced: list[Prompt]
    """Prompts without contrast that other prompts took the place of, since the last step."""
    frontier: int
    used: tuple[int, ...]


@dataclass(slots=True)
class Flow:
    """Plays groups in the background; :meth:`take` gives those of the next step. Close it in the end."""

    parts: Parts
    config: TrainConfig
    step: int
    frontier: int
    used: set[int]
    rests: dict[int, int]
    """Training task -> first epoch that may use it again; the loop adds to it."""
    flying: list[Flight] = field(default_factory=list[Flight])
    ready: list[Flight] = field(default_factory=list[Flight])
    learning: int = 0
    """Groups of the step whose update is being made."""
    live: int = 0
    """Episodes that hold a sandbox."""
    _rule: Admission = field(init=False)
    _cursor: int = field(init=False)
    _replaced: list[Prompt] = field(default_factory=list[Prompt])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _error: Exception | None = None
    _closed: bool = False
    _all: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    def __post_init__(self) -> None:
        self._rule = Admission(self.config.prompts, self.config.bound)
        self._cursor = self.frontier

    @property
    def outstanding(self) -> int:
        """Groups in flight, waiting, or being learned from."""
        return len(self.flying) + len(self.ready) + self.learning

    async def take(self) -> Taken:
        """The groups of the next step, as soon as the admission rule lets it be made.

        Raises :class:`TrainingError` when infrastructure ended too many of their episodes, or what an episode raised.
        """
        while True:
            self._admit()
            if self._error:
                raise self._error
            starts = [[flight.started for flight in some] for some in (self.ready, self.flying)]
            if (chosen := self._rule.choose(self.step, *starts)) is not None:
                return self._taken(sorted((self.ready[index] for index in chosen), key=lambda flight: flight.prompt))
            self._changed.clear()
            await self._changed.wait()

    def updated(self) -> None:
        """The update from the groups that were taken last is through: the next step begins."""
        self.step += 1
        self.learning = 0
        self._admit()

    async def close(self) -> None:
        """Stop what is in flight; what it finished is on disk."""
        self._closed = True
        for task in self._all:
            task.cancel()
        await asyncio.gather(*self._all, return_exceptions=True)

    # -- admission

    def _admit(self) -> None:
        """Start groups while the rule and the number of live episodes allow it."""
        size = self.config.group + (self.config.spare or 0)
        most = self.config.waves * self.config.wave
        while self._room() > 0 and (not self.live or self.live + size <= most):
            self._start(self._next(), size)

    def _room(self) -> int:
        """Groups that may start; none that no step would use."""
        room = self._rule.room(self.outstanding)
        if self.config.steps is None:
            return room
        return min(room, (self.config.steps - self.step) * self.config.prompts - self.outstanding)

    def _next(self) -> Prompt:
        """The next prompt in the frozen order that is neither used nor resting."""
        while True:
            ordinal, self._cursor = self._cursor, self._cursor + 1
            if ordinal in self.used:
                continue
            task = self.parts.order.task(ordinal)
            if self.rests.get(task, 0) <= self.parts.order.epoch(ordinal):
                return Prompt(ordinal, task)
            self.used.add(ordinal)

    def _start(self, prompt: Prompt, size: int) -> None:
        """Take up what is on disk and play the rest."""
        stored = self.parts.shelf.stored(prompt.ordinal)
        flight = Flight(prompt, self._since(stored), {t.key.sample: t for t in stored})
        self.flying.append(flight)
        for trajectory in stored:
            self.parts.watch.finished(trajectory)
        missing = [sample for sample in range(size) if sample not in flight.found]
        if self._complete(flight) or not missing:
            return self._settle(flight)
        wave = self.parts.wave(len(missing))
        for sample in missing:
            self.live += 1
            task = asyncio.get_running_loop().create_task(self._episode(flight, sample, wave))
            flight.running[sample] = task
            self._all.add(task)
            task.add_done_callback(self._all.discard)

    def _since(self, stored: Sequence[Trajectory]) -> int:
        """The step at which a group counts as started: earlier when a stored turn is older than the weights are."""
        oldest = min((turn.version for t in stored for turn in t.turns), default=self.parts.version())
        return self.step - min(max(0, self.parts.version() - oldest), self.config.bound)

    # -- episodes

    async def _episode(self, flight: Flight, sample: int, wave: Wave) -> None:
        key = self._key(flight.prompt, sample)
        task = self.parts.tasks[flight.prompt.task]
        holding = True

        def leave() -> None:
            nonlocal holding
            if holding:
                holding = False
                self.live -= 1
                wave.leave(key)

        try:
            self.parts.watch.started(key)
            trajectory = await self._play(task, wave.policy, key, leave)
            self._finished(flight, trajectory)
        except Exception as error:
            self._error = self._error or error
        finally:
            leave()
            flight.running.pop(sample, None)
            self._ended(flight)

    def _ended(self, flight: Flight) -> None:
        """An episode of a group is through, one way or another."""
        if self._error is None and not self._closed:
            if flight in self.flying and (self._complete(flight) or not flight.running):
                self._settle(flight)
            self._admit()
        self._changed.set()

    async def _play(self, task: Task, policy: Policy, key: Key, leave: Callable[[], None]) -> Trajectory | None:
        """The episode, or ``None`` at its deadline."""
        limit = asyncio.timeout(self.config.deadline)
        try:
            async with limit:
                return await self.parts.player.play(task, policy, key, leave)
        except TimeoutError:
            if not limit.expired():
                raise
            return None

    def _finished(self, flight: Flight, trajectory: Trajectory | None) -> None:
        if trajectory is None:
            flight.late += 1
            return
        flight.found[trajectory.key.sample] = trajectory
        if trajectory.outcome is not Outcome.INFRA:
            self._keep(trajectory)

    def _keep(self, trajectory: Trajectory) -> None:
        self.parts.shelf.append(trajectory)
        self.parts.watch.finished(trajectory)

    def _key(self, prompt: Prompt, sample: int) -> Key:
        return Key(
            seed=self.parts.seed, step=prompt.ordinal // self.config.prompts, prompt=prompt.ordinal, sample=sample
        )

    # -- groups

    def _complete(self, flight: Flight) -> bool:
        valid = sum(trajectory.outcome is not Outcome.INFRA for trajectory in flight.found.values())
        return valid >= self.config.group

    def _settle(self, flight: Flight) -> None:
        """The group is finished: cut what still runs, credit it, and set it aside or replace it."""
        self.flying.remove(flight)
        flight.cut = len(flight.running)
        for task in flight.running.values():
            task.cancel()
        flight.credit = self.parts.scorer.score(flight.trajectories) if flight.found else None
        lifeless = flight.credit is None or dead(flight.credit)
        if flight.credit is None or (lifeless and len(self._replaced) < (self.config.fill or 0)):
            self._replaced.append(flight.prompt)
            self._use(flight)
        else:
            self.ready.append(flight)
        self._changed.set()

    def _taken(self, flights: list[Flight]) -> Taken:
        for flight in flights:
            self.ready.remove(flight)
        self._check([t for flight in flights for t in flight.trajectories])
        for flight in flights:
            self._use(flight)
        replaced, self._replaced = self._replaced, []
        self.learning = len(flights)
        while self.frontier in self.used:
            self.used.discard(self.frontier)
            self.frontier += 1
        return Taken(flights, replaced, self.frontier, tuple(sorted(self.used)))

    def _check(self, trajectories: Sequence[Trajectory]) -> None:
        failed = [t for t in trajectories if t.outcome is Outcome.INFRA]
        if len(failed) > self.config.max_infra * len(trajectories):
            raise TrainingError(
                f"{len(failed)} of {len(trajectories)} episodes ended by infrastructure "
                f"({failed[0].detail or 'no detail'}); mend it ('dojo doctor' helps) and go on with "
                "'dojo train --resume': nothing finished is lost"
            )

    def _use(self, flight: Flight) -> None:
        """The group is consumed; what infrastructure ended in it is kept, masked."""
        for trajectory in flight.trajectories:
            if trajectory.outcome is Outcome.INFRA and trajectory not in self.parts.shelf.stored(flight.prompt.ordinal):
                self._keep(trajectory)
        self.parts.shelf.release(flight.prompt.ordinal)
        self.used.add(flight.prompt.ordinal)
