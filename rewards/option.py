"""What every choice in a slot shares: a frozen pydantic model that is its own configuration.

An option *is* the object that computes: its fields are its parameters, its one method is the formula, and ``kind``
names it in a config file. There is no registry and no factory; the discriminated unions of :mod:`rewards.config` do
the choosing.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Option(BaseModel):
    """Base of all options. Unknown keys are errors; infinities survive a round trip through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("is NaN, which no level can be compared with")
    return value


Threshold = Annotated[float, AfterValidator(_number)]
"""A number or plus or minus infinity."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Discount = Annotated[float, Field(gt=0, le=1)]
