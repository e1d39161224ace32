"""The shape of a recipe's TOML file (:mod:`rewards.slots`), refused where it could break the order of outcomes
(:mod:`rewards.order`).

Importing this module needs pydantic and nothing heavier.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from rewards.errors import RewardError as RewardError
from rewards.order import check
from rewards.slots import Slots


class RewardConfig(Slots):
    """A recipe that keeps the order of outcomes."""

    @model_validator(mode="after")
    def _keeps_order(self) -> Self:
        check(self)
        return self
