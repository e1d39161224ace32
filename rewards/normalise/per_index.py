"""Per turn index: subtract the mean over the members that have a return at the same turn (a common choice, kept to be
measured).

Biased: members still alive at turn t are a selected set, and on the stopping toy, where every reward is 1, centring
the rewards per index leaves nothing at all (rewards.md, section 5.4).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rewards.normalise.base import TurnReturns, View, entries
from rewards.normalise.statistics import mean
from rewards.option import Option


class PerIndex(Option):
    kind: Literal["per_index"] = "per_index"
    biased: ClassVar[bool] = True

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Centred per turn index."""
        columns: dict[int, list[float]] = {}
        for _, turn, value in entries(values):
            columns.setdefault(turn, []).append(value)
        middles = {turn: mean(column) for turn, column in columns.items()}
        return [[0.0 if value is None else value - middles[turn] for turn, value in enumerate(row)] for row in values]

    def gain(self) -> float:
        return 1.0
