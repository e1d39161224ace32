"""GiGPO's anchor states (arXiv 2505.10978; rewards.md, section 3.11): compare steps that were taken from the same
state.

Steps of a group whose state *before* the turn is the same (here: the same repository tree hash) form a set; a step's
advantage is its return minus the set's mean, over its std with ``divide``. A singleton gets 0. Biased: the set holds
the step itself, and states visited more than once by one member weigh more. omega (our ``beta``) = 1 and gamma = 0.95
are the authors'; hashing the repository is an inference.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from rewards.errors import RewardError
from rewards.facts import Member
from rewards.normalise.base import TurnReturns, View, entries
from rewards.normalise.statistics import degenerate, deviation, mean
from rewards.option import Option, Positive


class Anchor(Option):
    kind: Literal["anchor"] = "anchor"
    biased: ClassVar[bool] = True
    divide: bool = False
    """Divide by the set's standard deviation (the authors' mode ``mean_std_norm``)."""
    eps: Positive = 1e-6

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Raises :class:`RewardError` where a changed tree has no hash."""
        states = [before(member) for member in view.group.members]
        sets: dict[str, list[float]] = {}
        for member, turn, value in entries(values):
            sets.setdefault(states[member][turn], []).append(value)
        frames = {state: self._frame(found) for state, found in sets.items()}
        made = [[0.0] * len(row) for row in values]
        for member, turn, value in entries(values):
            middle, scale = frames[states[member][turn]]
            made[member][turn] = (value - middle) * scale
        return made

    def gain(self) -> float:
        return math.inf if self.divide else 1.0

    def _frame(self, values: list[float]) -> tuple[float, float]:
        """Baseline and factor of one set; a factor of 0 where it cannot tell its steps apart."""
        if degenerate(values):
            return 0.0, 0.0
        return mean(values), 1.0 / (deviation(values) + self.eps) if self.divide else 1.0


def before(member: Member) -> list[str]:
    """Tree hash before each turn."""
    states: list[str] = []
    tree = member.source.base_tree
    for index, facts in enumerate(member.facts):
        states.append(tree)
        if facts.changed and facts.tree is None:
            raise RewardError(f"normaliser 'anchor' needs the tree hash of {member.name}, turn {index}")
        tree = facts.tree or tree
    return states
