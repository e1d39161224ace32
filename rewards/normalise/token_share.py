"""Leave one out per token (PURE's code; rewards.md, section 3.1): a step's baseline is the siblings' mean reward per
token times its tokens.

    A_t = G_t - (sum of the other members' rewards / sum of their tokens) * (tokens of the turns from t on)

A baseline per step would favour few long steps. ``G_1`` of a member is the sum of its shaped rewards, so this needs
returns that are sums to the end (min-form or return-to-go with gamma = 1). Biased where the tokens still to come
depend on the actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from rewards.assign.return_to_go import accumulate
from rewards.normalise.base import TurnReturns, View
from rewards.option import Option


class TokenShare(Option):
    kind: Literal["token_share"] = "token_share"
    biased: ClassVar[bool] = True

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Advantages of the turns that have a return; only their tokens count."""
        ahead = [_ahead(row, view, index) for index, row in enumerate(values)]
        sums = [next((value for value in row if value is not None), 0.0) for row in values]
        tokens = [row[0] if row else 0.0 for row in ahead]
        total, length = math.fsum(sums), math.fsum(tokens)
        made: list[list[float]] = []
        for row, left, own, mine in zip(values, ahead, sums, tokens, strict=True):
            rate = (total - own) / (length - mine) if length > mine else 0.0
            made.append([0.0 if v is None else v - rate * n for v, n in zip(row, left, strict=True)])
        return made

    def gain(self) -> float:
        return 2.0


def _ahead(row: Sequence[float | None], view: View, index: int) -> list[float]:
    """Tokens of the turns with a return, from each turn to the end."""
    turns = view.group.members[index].source.turns
    return accumulate([0.0 if v is None else float(t.tokens) for v, t in zip(row, turns, strict=True)], 1.0)
