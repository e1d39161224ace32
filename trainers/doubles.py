"""A whole trainer in memory: a policy of two softmax tables, a game to play, a learner that really learns.

They are doubles, not mocks: tokens, log-probabilities, versions, checkpoints and infrastructure failures behave as
those of a language model in sandboxes, so scheduler and loop are driven for real, in milliseconds an episode and
without torch.

The game. Turn 0 samples an answer: 0 changes nothing, another is a patch, and one of them, fixed by the task's name, is
right. Turn 1 samples whether to submit. So all four outcomes occur, and policy gradient raises the resolve rate.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path

from agent.policy import Message, Policy, Sampled
from agent.trajectory import Action, End, Facts, Key, Outcome, Trajectory, Turn
from rewards.credit import Credit
from sandbox.task import Failure, Status, Task, Verdict
from trainers.components import Components, Machine
from trainers.engines.batcher import Ask, Deliver, Wave
from trainers.protocol import Row

ANSWERS = 3
"""Answers of turn 0."""
SUBMIT, STOP = ANSWERS, ANSWERS + 1
"""Tokens of turn 1."""
FIRST = 10
"""Token ids from here on are context: ``FIRST + bucket`` opens an episode."""
BUCKETS = 4
"""Rows of the answers' table: tasks share them, so that what is learned on some tasks helps on others."""
LAST = BUCKETS
"""Row of the table that decides whether to submit."""


def bucket(task: str) -> int:
    """The row of the answers' table for a task's name."""
    return hashlib.sha256(task.encode()).digest()[0] % BUCKETS


def right(task: str) -> int:
    """The answer that resolves a task."""
    return 1 + bucket(task) % (ANSWERS - 1)


@dataclass(slots=True)
class Table:
    """The weights: logits of the answers by bucket, and of submitting."""

    logits: list[list[float]] = field(default_factory=lambda: [*([0.0] * ANSWERS for _ in range(BUCKETS)), [0.0, 0.0]])

    def logprobs(self, row: int, temperature: float = 1.0) -> list[float]:
        """Log-probabilities of one row."""
        scaled = [x / temperature for x in self.logits[row]]
        top = max(scaled)
        norm = top + log(sum(exp(x - top) for x in scaled))
        return [x - norm for x in scaled]


@dataclass(slots=True)
class TableEngine:
    """Samples from a table, in waves whose turns wait for one another."""

    table: Table = field(default_factory=Table)
    version: int = 0
    batch_s: float = 0.0
    """Seconds that one batch takes."""
    batch_effect: float = 0.0
    """How much a log-probability depends on the size of its batch, as floating point makes it in a real engine."""
    batches: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Keys of each batch so far."""
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def policy(self, *, temperature: float) -> Policy:
        """A policy outside of any wave."""
        return self.wave(1, temperature).policy

    def wave(self, size: int, temperature: float) -> TableWave:
        """A wave of ``size`` episodes."""

        def run(asks: Sequence[Ask], deliver: Deliver) -> None:
            time.sleep(self.batch_s)
            self.batches.append(tuple(f"{ask.key}/{ask.turn}" for ask in asks))
            for index, ask in enumerate(asks):
                deliver(index, self._draw(ask, temperature, len(asks)))

        return TableWave(Wave(size, run, self._worker, lambda _: None))

    def _draw(self, ask: Ask, temperature: float, batch: int) -> Sampled:
        row = ask.context[0] - FIRST if ask.turn == 0 else LAST
        logprobs = self.table.logprobs(row, temperature)
        rng = random.Random(f"{ask.key} {ask.turn}")
        choice = rng.choices(range(len(logprobs)), [exp(x) for x in logprobs])[0]
        token = choice if ask.turn == 0 else SUBMIT + choice
        lp = logprobs[choice] + self.batch_effect * batch
        return Sampled(ids=(token,), logprobs=(lp,), text=str(token), cut=False, version=self.version)

    def close(self) -> None:
        """Stop the worker."""
        self._worker.shutdown()


@dataclass(slots=True)
class TableWave:
    """A wave and the policy that plays it."""

    wave: Wave
    name: str = "table"

    @property
    def policy(self) -> Policy:
        return self

    def leave(self, key: Key) -> None:
        self.wave.leave(key)

    def open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return (FIRST + bucket(messages[-1].text),)

    def reply(self, messages: Sequence[Message], cut: bool) -> tuple[int, ...]:
        return (FIRST + LAST,)

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        return await self.wave.ask(Ask(tuple(context), key, turn, max_tokens))


@dataclass(slots=True)
class TableLearner:
    """Plain gradient ascent on the engine's table."""

    engine: TableEngine
    lr: float = 1.0
    update_s: float = 0.0
    """Seconds that one update takes."""

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """Sum over sampled tokens of ratio * advantage * grad log p, divided by the number of rollouts."""
        return self._ascend(rows, lambda lp, old, advantage: exp(lp - old) * advantage)

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Cross-entropy on the masked positions."""
        return self._ascend(rows, lambda lp, old, advantage: 1.0)

    def _ascend(self, rows: Sequence[Row], weight: Callable[[float, float, float], float]) -> dict[str, float]:
        time.sleep(self.update_s)
        table = self.engine.table
        gradient = [[0.0] * len(row) for row in table.logits]
        loss = 0.0
        for row in rows:
            for place in (i for i, sampled in enumerate(row.mask) if sampled):
                head, token = row.ids[place - 1] - FIRST, row.ids[place]
                choice = token if head < LAST else token - SUBMIT
                lps = table.logprobs(head)
                scale = weight(lps[choice], row.logprobs[place], row.advantages[place]) / len(rows)
                loss -= scale * lps[choice]
                for i, lp in enumerate(lps):
                    gradient[head][i] += scale * ((i == choice) - exp(lp))
        for logits, slope in zip(table.logits, gradient, strict=True):
            logits[:] = [x + self.lr * g for x, g in zip(logits, slope, strict=True)]
        self.engine.version += 1
        return {"loss": loss, "grad_norm": sum(g * g for row in gradient for g in row) ** 0.5, "tokens": len(rows)}

    def save(self, folder: Path) -> None:
        """``table.json``."""
        saved = {"logits": self.engine.table.logits, "version": self.engine.version}
        (folder / "table.json").write_text(json.dumps(saved))

    def load(self, folder: Path) -> None:
        """Read ``table.json`` of a checkpoint."""
        saved = json.loads((folder / "table.json").read_text())
        self.engine.table.logits[:], self.engine.version = saved["logits"], saved["version"]


@dataclass(slots=True)
class Game:
    """Plays the game; ``broken`` says which episodes infrastructure ends."""

    broken: Callable[[Task, Key], bool] = lambda task, key: False
    turn_s: float = 0.0
    """Seconds that an action takes."""
    played: list[Key] = field(default_factory=list[Key])
    """Episodes played so far."""

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        """One episode of two turns."""
        self.played.append(key)
        first = policy.open([Message(role="user", text=task.instance_id)])
        answer = await policy.sample(first, key, 0, 1)
        time.sleep(self.turn_s)
        if self.broken(task, key):
            return _trajectory(task, key, policy, [_turn(first, answer)], End.INFRA, failure=Failure.SANDBOX)
        second = policy.reply([Message(role="user", text="submit?")], cut=False)
        choice = await policy.sample([*first, *answer.ids, *second], key, 1, 1)
        sampled()
        turns = [_turn(first, answer), _turn(second, choice)]
        return _graded(task, key, policy, turns, answer.ids[0], choice.ids[0] == SUBMIT)

    async def close(self) -> None:
        """Nothing is open."""


def _turn(prompt: tuple[int, ...], sampled: Sampled) -> Turn:
    return Turn(
        prompt=prompt,
        sampled=sampled.ids,
        logprobs=sampled.logprobs,
        text=sampled.text,
        version=sampled.version,
        action=Action(tool="game"),
        facts=Facts(format_ok=True, tool_ok=True),
    )


def _graded(task: Task, key: Key, policy: Policy, turns: list[Turn], answer: int, submitted: bool) -> Trajectory:
    if not submitted:
        return _trajectory(task, key, policy, turns, End.TURNS)
    if answer == 0:
        return _trajectory(task, key, policy, turns, End.SUBMITTED)
    status = Status.RESOLVED if answer == right(task.instance_id) else Status.FAILED
    verdict = Verdict(status=status)
    return _trajectory(task, key, policy, turns, End.SUBMITTED, patch=f"answer {answer}\n", verdict=verdict)


def episode(task: Task, key: Key, policy: str, sampled: Sequence[Sampled], *, solved: bool) -> Trajectory:
    """A graded episode of given samples."""
    return Trajectory(
        task=task.instance_id,
        key=key,
        policy=policy,
        turns=tuple(_turn((FIRST,), one) for one in sampled),
        end=End.SUBMITTED,
        patch="answer\n",
        verdict=Verdict(status=Status.RESOLVED if solved else Status.FAILED),
    ).seal()


def _trajectory(
    task: Task,
    key: Key,
    policy: Policy,
    turns: list[Turn],
    end: End,
    *,
    patch: str = "",
    verdict: Verdict | None = None,
    failure: Failure | None = None,
) -> Trajectory:
    return Trajectory(
        task=task.instance_id,
        key=key,
        policy=policy.name,
        turns=tuple(turns),
        end=end,
        patch=patch,
        verdict=verdict,
        failure=failure,
        detail="the sandbox died (on cue)" if failure else "",
    ).seal()


@dataclass(frozen=True, slots=True)
class OutcomeScorer:
    """The four outcomes as 0, 1/3, 2/3, 1; the group's mean as baseline; infrastructure masked."""

    def score(self, group: Sequence[Trajectory]) -> Credit:
        """Credit of one group."""
        worth = {Outcome.NO_SUBMIT: 0.0, Outcome.EMPTY_PATCH: 1 / 3, Outcome.TESTS_FAIL: 2 / 3, Outcome.TESTS_PASS: 1.0}
        valid = tuple(t.outcome is not Outcome.INFRA for t in group)
        returns = tuple(worth.get(t.outcome, 0.0) for t in group)
        known = [r for r, ok in zip(returns, valid, strict=True) if ok]
        flat = len(known) < 2 or max(known) == min(known)
        base = sum(known) / len(known) if known else 0.0
        advantages = tuple(0.0 if flat or not ok else r - base for r, ok in zip(returns, valid, strict=True))
        turns = tuple((a,) * len(t.turns) for a, t in zip(advantages, group, strict=True))
        return Credit(returns=returns, valid=valid, trajectory=advantages, turns=turns, degenerate=flat)


@dataclass(frozen=True, slots=True)
class Examples:
    """A warm start that shows how to submit, batch by batch."""

    count: int
    minutes: float | None = None

    def __len__(self) -> int:
        return self.count

    def batch(self, index: int) -> Sequence[Row]:
        """One example: the submit token after an answer."""
        ids = (FIRST + index % BUCKETS, 1, FIRST + LAST, SUBMIT)
        mask, zeros = (False, False, False, True), (0.0,) * 4
        return [Row(ids=ids, mask=mask, logprobs=zeros, advantages=zeros, rollout=f"sft-{index}", group=f"sft-{index}")]


def tasks(names: Sequence[str]) -> list[Task]:
    """Tasks of the game."""
    return [
        Task(
            instance_id=name,
            repo="game",
            base_commit="0",
            problem_statement="guess",
            patch="",
            FAIL_TO_PASS=("t",),
            PASS_TO_PASS=(),
        )
        for name in names
    ]


def components(
    train: int = 6, heldout: int = 4, game: Game | None = None, engine: TableEngine | None = None, batches: int = 4
) -> Components:
    """A run's parts in memory."""
    engine = engine or TableEngine()
    return Components(
        train=tasks([f"train-{i}" for i in range(train)]),
        heldout=tasks([f"heldout-{i}" for i in range(heldout)]),
        player=game or Game(),
        scorer=OutcomeScorer(),
        machine=lambda: Machine(engine, TableLearner(engine), engine.wave),
        warm_start=lambda: Examples(batches),
    )
