"""One run, from its first evaluation to its summary, interruptible at any moment.

    evaluate before -> warm start -> evaluate -> policy-gradient steps until the budget -> evaluate after -> summary

A run is a state (:class:`trainers.record.checkpoint.State`), weights, and files that are only ever appended to. Every
phase moves the state on and checkpoints it; what a kill took is done again, except episodes: those are on disk when
they finish and are read back by key. So in ``sync`` mode a resumed run ends with the same weights and numbers as one
that was not killed.

Held-out tasks are evaluated and nothing else: no choice of the run depends on what they gave.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console

from trainers.components import Components, Machine
from trainers.errors import TrainingError, boundary
from trainers.loop_config import EvalConfig, Stage, TrainConfig
from trainers.record import checkpoint, curves, summary
from trainers.record.auditor import Auditor, Stopwatch, rebuilt
from trainers.record.checkpoint import Phase, State
from trainers.record.display import Display, clock
from trainers.record.folder import hold
from trainers.record.metrics import Metrics, read
from trainers.record.tally import counts, shares
from trainers.record.watch import Watchers, start
from trainers.rollout.evaluate import evaluate, waves
from trainers.rollout.order import Order
from trainers.rollout.scheduler import Scheduler
from trainers.rollout.shelf import Shelf, lines
from trainers.rollout.sources import Gathered, InFlight, Run, Source, Waves

CHECKPOINT_S = 60.0
"""Seconds between checkpoints of the warm start."""
MARGIN_S = 20.0
"""Seconds kept for the summary and the picture."""

TIMED = ("seconds", "tokens_per_s")
"""Numbers of a learner that depend on the clock."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of a config that the loop reads, and the whole of it as text."""

    seed: int
    train: TrainConfig
    evaluation: EvalConfig
    text: str
    """The resolved config as TOML: stored with the run, and what a resumed run must match."""
    picture: bool = True
    """Draw the learning curves (needs matplotlib)."""
    clock: Callable[[], float] = time.monotonic
    """Seconds from anywhere; what the budget is measured with."""


def train(
    components: Components, settings: Settings, run: Path, resume: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Run or resume; returns the summary, which is also in ``run/summary.json``.

    Raises :class:`TrainingError` with one sentence for everything that a user can mend.
    """
    began = settings.clock()
    if settings.train.steps != 0 and not components.train:
        raise TrainingError("there is no training task; check tasks.rows, tasks.level and tasks.max_train")
    with boundary(run), hold(run, settings.text, resume) as digest, Display(run / "log.txt", console) as display:
        return asyncio.run(_Run(components, settings, run, digest, display, began).all())


@dataclass(slots=True)
class _Run:
    components: Components
    settings: Settings
    path: Path
    digest: str
    display: Display
    began: float
    machine: Machine = field(init=False)
    state: State = field(init=False)
    metrics: Metrics = field(init=False)
    watchers: Watchers = field(init=False)
    scheduler: Scheduler = field(init=False)
    auditor: Auditor = field(init=False)
    stopwatch: Stopwatch = field(init=False)
    used: float = field(init=False, default=0.0)
    """Seconds that the run had used before this process."""
    spent: float = field(init=False, default=0.0)
    """Seconds that the present phase had used before ``entered``."""
    entered: float = field(init=False, default=0.0)
    """Time at which this process entered the present phase."""

    async def all(self) -> dict[str, Any]:
        """Every phase that is left, then the summary."""
        self._load()
        try:
            while self.state.phase is not Phase.DONE:
                self.entered = self._now()
                self.spent = self.state.seconds.get(self.state.phase, 0.0)
                await self._phase(self.state.phase)
                following = list(Phase)[list(Phase).index(self.state.phase) + 1]
                self._checkpoint(phase=following)
        finally:
            await self.components.player.close()
            self.machine.engine.close()
            self.watchers.close()
        return self._report()

    def _report(self) -> dict[str, Any]:
        """The summary, the picture, and the last lines on the screen."""
        found = summary.write(self.path, self.state)
        for line in summary.table(found):
            self.display.say(line)
        if self.settings.picture:
            self.display.say(f"picture: {curves.draw(self.path, found)}")
        self.display.say(f"report: {self.path / 'summary.json'}")
        return found

    def _load(self) -> None:
        """Weights and state: of the newest checkpoint, or of a run that begins."""
        folder = checkpoint.latest(self.path)
        self.state = checkpoint.load(folder, self.digest) if folder else State(config=self.digest)
        self.used = self.state.elapsed
        where = f", goes on at {self.state.phase}, step {self.state.step}" if folder else ""
        self.display.say(f"run {self.path}{where}")
        self.machine = self.components.machine()
        if folder:
            self.machine.learner.load(folder)
        watching = start(self.settings.train.watch or (), self.path, self.settings.text)
        self.watchers = Watchers(watching, self.display.say)
        self.metrics = Metrics(self.path / "metrics.jsonl", self.state.lines, self.watchers.log)
        self.stopwatch = Stopwatch(self.components.scorer)
        self.components = replace(self.components, scorer=self.stopwatch)
        self.auditor = rebuilt(read(self.metrics.path))
        self.scheduler = Scheduler(self.components.player, self.settings.train, self.display)

    async def _phase(self, phase: Phase) -> None:
        if phase is Phase.SFT:
            self._warm_start()
        elif phase is Phase.GRPO:
            await self._steps()
        else:
            await self._evaluate(phase)

    # -- evaluations

    async def _evaluate(self, phase: Phase) -> None:
        """Play the held-out tasks; measures what the last evaluation will cost."""
        config, tasks = self.settings.evaluation, self.components.heldout
        if phase not in config.stages or not tasks:
            return
        path = self.path / f"evals-{phase}.jsonl"
        total = len(tasks) * config.samples
        fresh = total - lines(path)
        self.display.phase(f"evaluation {phase}", total)
        with self.machine.averaged():
            played = await evaluate(self.scheduler, self.machine, tasks, self.settings.seed, config, path)
        seconds = self._now() - self.entered
        if fresh > 0:
            self._change(pace=seconds / fresh)
        rates = shares(counts(played))
        self.metrics.append({"kind": "eval", "stage": phase, "step": self.state.step, "rates": rates} | self._timing())
        self.display.say(f"evaluation {phase}: " + ", ".join(f"{name} {rate:.3f}" for name, rate in rates.items()))

    def _reserve(self, *stages: Stage) -> float:
        """Seconds to keep for the evaluations that are still to come, at the pace of the last one.

        An untrained model fills every turn to its limit, so the first evaluation is far slower than those to come.
        """
        config = self.settings.evaluation
        episodes = len(self.components.heldout) * config.samples * sum(stage in config.stages for stage in stages)
        return MARGIN_S + 1.1 * self.state.pace * episodes

    def _left(self) -> float:
        """Seconds left of the run's budget."""
        minutes = self.settings.train.minutes
        return inf if minutes is None else minutes * 60 - self._elapsed()

    # -- warm start

    def _warm_start(self) -> None:
        """Supervised steps over fixed batches, until they or the stage's minutes or the run's budget end."""
        if self.components.warm_start is None:
            return
        warm = self.components.warm_start()
        limit = inf if warm.minutes is None else warm.minutes * 60
        self.display.phase("warm start", len(warm))
        saved, reserve = self._now(), self._reserve("warm")
        while self.state.batch < len(warm) and self._in_phase() < limit and self._left() > reserve:
            numbers = self.machine.learner.imitate(warm.batch(self.state.batch))
            self._change(batch=self.state.batch + 1)
            steady, timing = _split(numbers)
            self.metrics.append({"kind": "sft", "batch": self.state.batch, **steady} | self._timing(**timing))
            self.display.advance(_facts(numbers), done=self.state.batch)
            if self._now() - saved > CHECKPOINT_S:
                self._checkpoint()
                saved = self._now()
        self.display.say(f"warm start: {self.state.batch} of {len(warm)} batches in {clock(self._in_phase())}")

    # -- policy-gradient steps

    async def _steps(self) -> None:
        """Steps until their number or the budget is used up, the last evaluation's share kept back."""
        config = self.settings.train
        order = Order(self.settings.seed, len(self.components.train), config.pool)
        total = (config.steps or 0) * config.prompts * config.group
        left = self._left() - self._reserve("after")
        self.display.phase("training", total, None if left == inf else left)
        recent = deque([self.state.pace * config.prompts * config.group], maxlen=3)
        async with self._source(order) as source:
            while self._another(max(recent)):
                began = self._now()
                await self._step(order, source)
                recent.append(self._now() - began)
                if self.state.step % config.checkpoint_every == 0:
                    self._checkpoint()

    def _source(self, order: Order) -> Source:
        """Where the groups of a step come from."""
        config, state = self.settings.train, self.state
        path, opened = self.path / "trajectories.jsonl", waves(self.machine, config.temperature)
        since = state.step if config.mode == "sync" else state.frontier // config.prompts
        run = Run(
            components=self.components,
            machine=self.machine,
            watch=self.display,
            order=order,
            opened=opened,
            shelf=Shelf(path, since=since),
            config=config,
            seed=self.settings.seed,
        )
        return Waves(run, self.scheduler) if config.mode == "sync" else InFlight(run, state)

    def _another(self, seconds: float) -> bool:
        """Whether one more step is wanted and fits."""
        steps = self.settings.train.steps
        return (steps is None or self.state.step < steps) and self._left() - self._reserve("after") > seconds

    async def _step(self, order: Order, source: Source) -> None:
        """Play, credit, update, record; the state moves on when all of it is done."""
        began = self._now()
        got = await source.groups(self.state)
        played = self._now()
        rows = got.scored.told(self.components.lessons)
        numbers = await source.update(rows)
        rests = self.state.rests | self._tired(order, got)
        source.done(self.state.step, rests)
        self._change(step=self.state.step + 1, frontier=got.frontier, used=got.used, rests=rests)
        timing = {"play": played - began, "update": self._now() - played}
        self._record(got, len(rows), numbers, timing)

    def _record(self, got: Gathered, rows: int, numbers: dict[str, float], timing: dict[str, float]) -> None:
        seen = got.scored.record() | got.shown | self.auditor.step(got.scored)
        head = {"kind": "grpo", "step": self.state.step, "prompts": [prompt.ordinal for prompt in got.prompts]}
        steady, spent = _split(numbers)
        spent_on_rewards = self.stopwatch.lap()
        share = spent_on_rewards / max(timing["play"] + timing["update"], spent_on_rewards, 1e-9)
        timing |= {"reward": spent_on_rewards, "reward_share": share}
        timing |= {f"learner_{name}": value for name, value in spent.items()}
        self.metrics.append(head | seen | {"rows": rows, "learner": steady} | self._timing(**timing))
        self.display.advance({"step": str(self.state.step), "reward": _short(seen["reward"])})
        self.display.say(
            f"step {self.state.step}: reward {_short(seen['reward'])}, "
            f"resolved {_short(seen['rates'].get('tests_pass'))}, dead groups {seen['dead_share']:.2f}, "
            f"infrastructure {seen['rates']['infra']:.2f}, played {timing['play']:.0f} s, "
            f"updated {timing['update']:.0f} s"
        )
        for warning in self.auditor.news():
            self.display.say(f"audit: {warning}")

    def _tired(self, order: Order, got: Gathered) -> dict[int, int]:
        """Tasks whose group had no contrast, with the first epoch that may use them again."""
        rest = self.settings.train.rest
        return {p.task: order.epoch(p.ordinal) + 1 + rest for p in got.tired if rest}

    # -- time and state

    def _checkpoint(self, **changes: Any) -> None:
        seconds = {**self.state.seconds, self.state.phase.value: self._in_phase()}
        self._change(**changes, lines=self.metrics.lines, elapsed=self._elapsed(), seconds=seconds)
        self.state = checkpoint.save(self.path, self.state, self.machine.learner, self.settings.train.keep)

    def _change(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)

    def _timing(self, **seconds: float) -> dict[str, Any]:
        """The only part of a metrics line that may differ between a run and the same run resumed."""
        return {"timing": {"elapsed": self._elapsed(), **seconds}}

    def _elapsed(self) -> float:
        return self.used + self._now() - self.began

    def _in_phase(self) -> float:
        return self.spent + self._now() - self.entered

    def _now(self) -> float:
        return self.settings.clock()


def _split(numbers: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """A learner's numbers without and with those that depend on the clock."""
    timed = {name: value for name, value in numbers.items() if name in TIMED}
    return {name: value for name, value in numbers.items() if name not in TIMED}, timed


def _facts(numbers: dict[str, float]) -> dict[str, str]:
    return {name: _short(numbers[name]) for name in ("loss", "grad_norm") if name in numbers}


def _short(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"
