"""What a run is made of: the parts that the ``dojo`` command builds from a config and hands to the loop.

Each part is behind a protocol: the same loop drives a language model in containers and a scripted double in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from agent.policy import Policy
from agent.trajectory import Key, Trajectory
from sandbox.task import Task
from trainers.protocol import Engine, Learner, Row, Scorer


class Player(Protocol):
    """Plays and grades one episode. The seam for executors on other machines: plain data in, plain data out."""

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        """The episode, graded and sealed. Infrastructure failures are in its ``failure``, not raised, after retries.

        ``sampled`` is called once the episode asks the policy for nothing more, before it is graded: those that are
        generated with it need not wait for the grade.
        """
        ...

    async def close(self) -> None:
        """Close sandboxes that are still open."""
        ...


class Wave(Protocol):
    """Episodes that are generated together: their batches depend on their requests, never on timing."""

    @property
    def policy(self) -> Policy:
        """Plays the wave's episodes."""
        ...

    def leave(self, key: Key) -> None:
        """This episode samples no more: the others need not wait for it."""
        ...


@dataclass(frozen=True, slots=True)
class FreeWave:
    """A wave of an engine whose samples depend on no batch (a server, a double)."""

    policy: Policy

    def leave(self, key: Key) -> None:
        """Nobody waits."""


class WarmStart(Protocol):
    """The supervised start: scripted examples of training tasks in a fixed order of batches."""

    @property
    def minutes(self) -> float | None:
        """Wall-clock bound of the stage; ``None``: all batches."""
        ...

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def batch(self, index: int) -> Sequence[Row]:
        """The rows of one supervised step. A function of the index alone, so that a resumed run continues exactly."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """The loaded model: what samples and what learns (in one process they share the weights)."""

    engine: Engine
    learner: Learner
    wave: Callable[[int, float], Wave] | None = None
    """Opens a wave of n episodes at a temperature. ``None``: the engine's samples depend on no batch."""
    averaged: Callable[[], AbstractContextManager[None]] = nullcontext
    """Samples with the averaged weights as long as it lasts, where the learner keeps an average."""


Lessons = Callable[[Sequence[Trajectory]], Sequence[str]]
"""Feedback for each episode of a group (:mod:`trainers.rollout.lessons`)."""


@dataclass(frozen=True, slots=True)
class Components:
    """Everything that :func:`trainers.loop.train` needs."""

    train: Sequence[Task]
    """Training tasks in the order of the file; the loop permutes them by the seed."""
    heldout: Sequence[Task]
    """Evaluated at every stage, never trained on, never used for any choice."""
    player: Player
    scorer: Scorer
    machine: Callable[[], Machine]
    """Loads the model. Called only after the run folder was accepted, so that a refusal costs nothing."""
    warm_start: Callable[[], WarmStart] | None = None
    """Built (tokenised) only when the stage is reached; ``None`` skips it."""
    lessons: Lessons | None = None
    """What the rows of a group are told where the loss distils from feedback."""
