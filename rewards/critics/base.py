"""What a critic is: per-turn facts in, per-turn marks out.

A critic is a step reward: its marks enter the return through a combination (``critics`` in the config) or become turn
rewards (``turns``). ``bounds`` says, without sampling, between which values its total over a trajectory can lie: the
check that step rewards cannot cross the gap between two outcomes rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from rewards.combine.channel import Channel
from rewards.facts import Group
from rewards.option import Option, Threshold, Weight

Marks = tuple[float, ...]


class Critic(Protocol):
    """The face of a critic."""

    share: ClassVar[bool]
    """Spread the marks over the turns, so that their sum does not grow with the number of turns."""

    @property
    def kind(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def threshold(self) -> float: ...
    @property
    def needs(self) -> frozenset[str]:
        """Facts that a run must record for this critic: ``tests``, ``diagnostics``, ``suites``."""
        ...

    def bounds(self) -> tuple[float, float]:
        """Least and greatest total over a trajectory; infinite where nothing bounds it."""
        ...

    def stretch(self) -> float:
        """Least sum of marks over any stretch of turns."""
        ...

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn. Raises :class:`rewards.errors.RewardError` for a missing fact."""
        ...


class Step(Option):
    """Fields that every critic has. Its marks enter the return as they are."""

    share: ClassVar[bool] = False
    priority: int = 1
    """Rank in a gated combination: higher ones gate lower ones."""
    threshold: Threshold = float("-inf")
    """What this critic must reach for those below it to count; -inf: it gates nothing."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def stretch(self) -> float:
        return 0.0


class Share(Step):
    """A critic that says yes or no at each turn and pays ``weight`` times the share of yes."""

    share: ClassVar[bool] = True
    weight: Weight = 0.1
    """Reward of a trajectory all of whose turns pass (ours: the paper's value is not known)."""

    def bounds(self) -> tuple[float, float]:
        return 0.0, self.weight


def channel(critic: Critic, marks: Marks) -> Channel:
    """The marks of one member as a combination takes them."""
    count = len(marks)
    turns = tuple([mark / count for mark in marks]) if critic.share else marks
    return Channel(critic.kind, critic.priority, critic.threshold, marks, turns)
