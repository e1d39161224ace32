"""Where the groups of a step come from: played for it in fixed waves, or in flight over updates.

The loop asks a source for the groups of a step, lets it make the update, and tells it when the step is done. ``sync``
plays while nothing learns and learns while nothing plays; the other modes learn in a thread while episodes play on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from agent.trajectory import Key, Outcome, Trajectory
from trainers.components import Components, Machine, Wave
from trainers.loop_config import TrainConfig
from trainers.protocol import Row
from trainers.record.checkpoint import State
from trainers.rollout.flow import Flow, Parts
from trainers.rollout.hints import hinted, hopeless, substituted
from trainers.rollout.order import Order, Prompt
from trainers.rollout.scheduler import Request, Scheduler, Watch
from trainers.rollout.shelf import Shelf
from trainers.step import Scored, score


@dataclass(frozen=True, slots=True)
class Gathered:
    """The groups of one step."""

    prompts: list[Prompt]
    scored: Scored
    frontier: int
    """First prompt ordinal not consumed when the step is done."""
    used: tuple[int, ...] = ()
    """Ordinals behind it that are consumed, too."""
    replaced: tuple[Prompt, ...] = ()
    """Prompts whose groups had no contrast and gave way to others."""
    shown: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further numbers for the metrics."""

    @property
    def tired(self) -> list[Prompt]:
        """Prompts whose groups had no contrast."""
        return [*self.replaced, *(p for p, dead in zip(self.prompts, self.scored.dead, strict=True) if dead)]


class Source(Protocol):
    """Gives groups and makes updates."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: object, error: object, trace: TracebackType | None) -> None: ...

    async def groups(self, state: State) -> Gathered:
        """The groups of the step that ``state`` stands before."""
        ...

    async def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """One update from rows; ``{}`` without any."""
        ...

    def done(self, step: int, rests: Mapping[int, int]) -> None:
        """A step is through; ``rests`` says which training tasks rest, and until which epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """What both kinds share."""

    components: Components
    machine: Machine
    watch: Watch
    order: Order
    opened: Callable[[int], Wave]
    """Opens a wave of n episodes."""
    shelf: Shelf
    config: TrainConfig
    seed: int


@dataclass(slots=True)
class Waves:
    """``sync``: see :mod:`trainers.rollout.scheduler`."""

    run: Run
    scheduler: Scheduler

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        """Nothing is in flight."""

    async def groups(self, state: State) -> Gathered:
        """Played now; groups without contrast give way to further prompts, ``train.fill`` of them at most."""
        config, frontier = self.run.config, state.frontier
        kept, scores, replaced = list[Prompt](), list[Scored](), list[Prompt]()
        while len(kept) < config.prompts:
            prompts, frontier = self.run.order.take(frontier, config.prompts - len(kept), state.rests)
            scored = await self._helped(prompts, await self._play(prompts, state.step), state.step)
            for index, (prompt, dead) in enumerate(zip(prompts, scored.dead, strict=True)):
                if dead and len(replaced) < (config.fill or 0):
                    replaced.append(prompt)
                else:
                    kept.append(prompt)
                    scores.append(Scored(scored.groups[index : index + 1], scored.credits[index : index + 1]))
        shown: dict[str, Any] = {"replaced": len(replaced)} if config.fill else {}
        return Gathered(kept, _joined(scores), frontier, replaced=tuple(replaced), shown=shown)

    async def _play(self, prompts: Sequence[Prompt], step: int) -> Scored:
        run, group = self.run, self.run.config.group
        requests = [
            Request(
                run.components.train[prompt.task], Key(seed=run.seed, step=step, prompt=prompt.ordinal, sample=sample)
            )
            for prompt in prompts
            for sample in range(group)
        ]
        played = await self.scheduler.play(requests, run.shelf, run.opened, run.config.wave)
        return score(played, group, run.components.scorer)

    async def _helped(self, prompts: Sequence[Prompt], scored: Scored, step: int) -> Scored:
        """Groups that nobody solved, with an episode that was given a hint where one helped."""
        run, groups = self.run, list(scored.groups)
        for level in range(1, (run.config.hints or 0) + 1):
            stuck = [index for index, group in enumerate(groups) if hopeless(group)]
            requests = [
                Request(
                    hinted(run.components.train[prompts[index].task], level),
                    Key(seed=run.seed, step=step, prompt=prompts[index].ordinal, sample=run.config.group + level - 1),
                )
                for index in stuck
            ]
            played = await self.scheduler.play(requests, run.shelf, run.opened, run.config.wave)
            for index, trajectory in zip(stuck, played, strict=True):
                if trajectory.outcome is Outcome.TESTS_PASS:
                    groups[index] = substituted(groups[index], trajectory)
        if groups == list(scored.groups):
            return scored
        return score([t for group in groups for t in group], run.config.group, run.components.scorer)

    async def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """In this thread: nothing else runs."""
        return self.run.machine.learner.update(rows) if rows else {}

    def done(self, step: int, rests: Mapping[int, int]) -> None:
        """The step's trajectories leave memory."""
        self.run.shelf.forget(step)


@dataclass(slots=True)
class InFlight:
    """``async`` and ``one-step-off``: see :mod:`trainers.rollout.flow`."""

    run: Run
    state: State
    """The state that the run begins or resumes at."""
    flow: Flow = field(init=False)

    async def __aenter__(self) -> Self:
        run, state = self.run, self.state
        parts = Parts(
            player=run.components.player,
            scorer=run.components.scorer,
            tasks=run.components.train,
            order=run.order,
            shelf=run.shelf,
            wave=run.opened,
            watch=run.watch,
            version=lambda: run.machine.engine.version,
            seed=run.seed,
        )
        for ordinal in state.used:
            run.shelf.release(ordinal)
        self.flow = Flow(parts, run.config, state.step, state.frontier, set(state.used), dict(state.rests))
        return self

    async def __aexit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        """What is in flight stops; what it finished is on disk."""
        await self.flow.close()

    async def groups(self, state: State) -> Gathered:
        """Those that are finished and due."""
        taken = await self.flow.take()
        groups = tuple(tuple(flight.trajectories) for flight in taken.flights)
        credits = tuple(flight.credit for flight in taken.flights if flight.credit is not None)
        shown = {
            "replaced": len(taken.replaced),
            "staleness": staleness([t for group in groups for t in group], self.run.machine.engine.version),
            "cut": sum(flight.cut for flight in taken.flights),
            "late": sum(flight.late for flight in taken.flights),
            "outstanding": self.flow.outstanding,
        }
        prompts = [flight.prompt for flight in taken.flights]
        scored = Scored(groups, credits)
        return Gathered(prompts, scored, taken.frontier, taken.used, tuple(taken.replaced), shown)

    async def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """In a thread, while episodes play on."""
        numbers = await asyncio.to_thread(self.run.machine.learner.update, rows) if rows else {}
        self.flow.updated()
        return numbers

    def done(self, step: int, rests: Mapping[int, int]) -> None:
        """Prompts that are admitted from now on know who rests."""
        self.flow.rests = dict(rests)


def staleness(trajectories: Sequence[Trajectory], version: int) -> dict[str, float]:
    """Updates between the weights that sampled a token and those that learn from it: mean and maximum over tokens."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    runs = [run for turn in turns for run in turn.spans or ((turn.version, len(turn.sampled)),)]
    lags = [(max(0, version - drawn), tokens) for drawn, tokens in runs]
    total = sum(tokens for _, tokens in lags)
    mean = sum(lag * tokens for lag, tokens in lags) / total if total else 0.0
    return {"mean": mean, "max": float(max((lag for lag, _ in lags), default=0))}


def _joined(parts: Sequence[Scored]) -> Scored:
    return Scored(
        tuple(group for part in parts for group in part.groups),
        tuple(credit for part in parts for credit in part.credits),
    )
