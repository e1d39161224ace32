"""The slots of a recipe: one choice per slot, each a discriminated union on ``kind``.

Shape and types only; what a recipe must keep beyond them is decided by :mod:`rewards.order`, and
:class:`rewards.config.RewardConfig` is the two together.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rewards.combine.clip_delta import ClipDelta
from rewards.combine.d_ra import DirectAccumulation
from rewards.combine.g_ra import Gated
from rewards.combine.log_sigmoid import LogSigmoid
from rewards.combine.outcome import OutcomeOnly
from rewards.combine.renorm import Renorm
from rewards.critics.format import ActionFormat
from rewards.critics.tool_call import ToolCall
from rewards.normalise.leave_one_out import LeaveOneOut
from rewards.normalise.mean_only import MeanOnly
from rewards.normalise.mean_std import MeanStd
from rewards.option import Option, Positive, Weight
from rewards.outcomes import Levels
from rewards.turns import AnyCritic, TurnChannel

AnyCombination = Annotated[
    DirectAccumulation | Gated | OutcomeOnly | Renorm | LogSigmoid | ClipDelta, Field(discriminator="kind")
]
AnyNormaliser = Annotated[MeanOnly | MeanStd | LeaveOneOut, Field(discriminator="kind")]


class Slots(Option):
    """What a recipe's TOML file holds. The default is G-RA's scalar form over the format and the tool-call critic."""

    name: str = "g_ra_scalar"
    """Shown in reports; changes nothing."""
    outcome: Levels = Levels()
    critics: tuple[AnyCritic, ...] = (ActionFormat(), ToolCall())
    """Step rewards that enter the return."""
    combination: AnyCombination = Gated()
    normaliser: AnyNormaliser = MeanOnly()
    """How returns become A_traj."""
    trajectory_weight: Weight = 1.0
    """Weight of A_traj in the fused advantage."""
    turns: tuple[TurnChannel, ...] = ()
    """Sources of A_turn."""
    clamp: Positive | None = None
    """Bring the sum of a trajectory's step rewards into [0, clamp]."""
    allow_negative: bool = False
    """Accept critics that can be negative without a clamp."""
    withhold_flagged: bool = True
    """A trajectory whose grade is flagged as tampering gets no positive credit."""

    @property
    def needs(self) -> dict[str, str]:
        """Facts that a run must record, each with the option that needs it: ``tests``, ``diagnostics``, ``suites``."""
        users = [(critic.kind, critic.needs) for critic in self.critics]
        users += [(f"turns.{channel.source.kind}", channel.source.needs) for channel in self.turns]
        return {fact: name for name, facts in reversed(users) for fact in facts}
