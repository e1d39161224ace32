"""The shape of a recipe's TOML file: one choice per slot, each a discriminated union on ``kind``.

Importing this module needs pydantic and nothing heavier. A config that validates keeps the order of outcomes
(:mod:`rewards.order`).
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from rewards.combine.d_ra import DirectAccumulation
from rewards.combine.g_ra import Gated
from rewards.combine.outcome import OutcomeOnly
from rewards.critics.format import ActionFormat
from rewards.critics.tool_call import ToolCall
from rewards.normalise.leave_one_out import LeaveOneOut
from rewards.normalise.mean_only import MeanOnly
from rewards.normalise.mean_std import MeanStd
from rewards.option import Option, Positive
from rewards.order import check
from rewards.outcomes import Levels

AnyCritic = Annotated[ActionFormat | ToolCall, Field(discriminator="kind")]
AnyCombination = Annotated[DirectAccumulation | Gated | OutcomeOnly, Field(discriminator="kind")]
AnyNormaliser = Annotated[MeanOnly | MeanStd | LeaveOneOut, Field(discriminator="kind")]


class RewardConfig(Option):
    """A recipe. The default is G-RA over the format and the tool-call critic."""

    name: str = "g_ra"
    """Shown in reports; changes nothing."""
    outcome: Levels = Levels()
    critics: tuple[AnyCritic, ...] = (ActionFormat(), ToolCall())
    """Step rewards that enter the return."""
    combination: AnyCombination = Gated()
    normaliser: AnyNormaliser = MeanOnly()
    """How returns become A_traj."""
    clamp: Positive | None = None
    """Bring the sum of a trajectory's step rewards into [0, clamp]."""
    allow_negative: bool = False
    """Accept critics that can be negative without a clamp."""
    withhold_flagged: bool = True
    """A trajectory whose grade is flagged as tampering gets no positive credit."""

    @model_validator(mode="after")
    def _keeps_order(self) -> Self:
        check(self)
        return self
