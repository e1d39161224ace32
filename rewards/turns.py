"""Turn credit: source -> gate -> credit assignment -> normaliser, giving A_turn; then A = A_traj + sum of beta *
A_turn.

Invariants (rewards.md, section 5): a gate closes *before* centring, zeros included in the mean, so that a
below-average trajectory is not forgiven for not submitting; a turn without a reward has A_turn = 0; equal returns
give exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rewards.assign.immediate import Immediate
from rewards.assign.min_form import MinForm
from rewards.assign.potential import PotentialDifference
from rewards.assign.return_to_go import ReturnToGo
from rewards.combine.channel import Combined
from rewards.critics.format import ActionFormat
from rewards.critics.process import ProcessV1, ProcessV2
from rewards.critics.suppressed import Suppressed
from rewards.critics.tests import TestVector
from rewards.critics.tool_call import ToolCall
from rewards.critics.tool_choice import ToolChoice
from rewards.critics.turn_cost import TurnCost
from rewards.errors import RewardError
from rewards.facts import Group
from rewards.normalise.anchor import Anchor
from rewards.normalise.base import View, pooled
from rewards.normalise.leave_one_out import LeaveOneOut
from rewards.normalise.mean_only import MeanOnly
from rewards.normalise.mean_std import MeanStd
from rewards.normalise.per_index import PerIndex
from rewards.normalise.prefix_tree import PrefixTree
from rewards.normalise.statistics import degenerate
from rewards.normalise.token_share import TokenShare
from rewards.option import Option, Weight

AnyCritic = Annotated[
    ActionFormat | ToolCall | ToolChoice | TestVector | ProcessV1 | ProcessV2 | Suppressed | TurnCost,
    Field(discriminator="kind"),
]


class Composed(Option):
    """The composed return itself: gated step rewards on their turns, the outcome on the last one (GiGPO, TEMPO)."""

    kind: Literal["return"] = "return"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()


class Steps(Option):
    """The step rewards of the composed return, after every gate, each on its turn and without the outcome: G-RA per
    step (rewards.md, sections 1.4 and 1.6)."""

    kind: Literal["steps"] = "steps"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()


AnySource = Annotated[
    ActionFormat
    | ToolCall
    | ToolChoice
    | TestVector
    | ProcessV1
    | ProcessV2
    | Suppressed
    | TurnCost
    | Composed
    | Steps,
    Field(discriminator="kind"),
]
AnyCredit = Annotated[Immediate | ReturnToGo | MinForm | PotentialDifference, Field(discriminator="kind")]
AnyTurnNormaliser = Annotated[
    MeanOnly | MeanStd | LeaveOneOut | PerIndex | TokenShare | Anchor | PrefixTree, Field(discriminator="kind")
]


class TurnChannel(Option):
    """One source of turn credit."""

    source: AnySource
    """A critic whose marks are turn rewards, or a part of the composed return: ``return``, ``steps``."""
    gated: bool = False
    """Zero the turn rewards where the combination's gate is closed."""
    credit: AnyCredit = Immediate()
    normaliser: AnyTurnNormaliser = MeanOnly()
    beta: Weight = 1.0
    """Weight of A_turn in the fused advantage (1.0 is ours: VeRPO's value could not be read)."""

    def rewards(self, group: Group, combined: Sequence[Combined]) -> list[list[float | None]]:
        """Per member and turn, gated, before credit assignment."""
        values = self._source(group, combined)
        if not self.gated:
            return values
        return [
            row if one.open else [None if value is None else 0.0 for value in row]
            for row, one in zip(values, combined, strict=True)
        ]

    def advantages(self, rewards: Sequence[Sequence[float | None]], view: View) -> list[list[float]]:
        """A_turn, before beta."""
        returns = [self.credit.assign(row) for row in rewards]
        judged = view.totals if isinstance(self.normaliser, PrefixTree) else pooled(returns)
        if not all(map(math.isfinite, judged)):
            raise RewardError(f"a turn reward of source {self.source.kind!r} is not a finite number")
        if len(view.totals) < 2 or degenerate(judged):
            return [[0.0] * len(row) for row in rewards]
        return self.normaliser.turns(returns, view)

    def _source(self, group: Group, combined: Sequence[Combined]) -> list[list[float | None]]:
        if isinstance(self.source, TestVector):
            return self.source.attempts(group)
        if isinstance(self.source, Composed):
            return [[*one.steps[:-1], one.steps[-1] + one.outcome] if one.steps else [] for one in combined]
        if isinstance(self.source, Steps):
            return [list(one.steps) for one in combined]
        return [list(marks) for marks in self.source.marks(group)]


def fuse(
    trajectory: Sequence[float],
    weight: float,
    turns: Sequence[tuple[float, Sequence[Sequence[float]]]],
    lengths: Sequence[int],
) -> list[list[float]]:
    """``weight * A_traj + sum of beta * A_turn`` per member and turn (VeRPO, equation 14; iStar and GiGPO have the
    same shape)."""
    if len(turns) == 1:  # Two terms: their float sum is correctly rounded without fsum.
        beta, part = turns[0]
        return [[weight * a + beta * value for value in row] for a, row in zip(trajectory, part, strict=True)]
    return [
        [
            math.fsum((weight * advantage, *(beta * part[member][turn] for beta, part in turns)))
            for turn in range(lengths[member])
        ]
        for member, advantage in enumerate(trajectory)
    ]
