"""What credit assignment does: one trajectory's turn rewards become, for each turn, the return that its tokens are
credited with.

``None`` is a turn without a reward (rewards.md, section 5.2): it gets no return either, and so no A_turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

TurnValues = Sequence[float | None]


class Credit(Protocol):
    """The face of a credit option."""

    biased: ClassVar[bool]
    """Its expected gradient is not that of the sum of rewards (docs/rewards.md holds the measured numbers)."""

    def assign(self, rewards: TurnValues) -> list[float | None]:
        """Same length as ``rewards``, ``None`` at the same places."""
        ...

    def floor(self, stretch: float, top: float) -> float:
        """Least return of a turn, where the least sum over any stretch of turns is ``stretch`` and no reward is above
        ``top``."""
        ...


def numbers(rewards: TurnValues) -> list[float]:
    """The rewards of the turns that have one."""
    return [reward for reward in rewards if reward is not None]


def placed(rewards: TurnValues, returns: Sequence[float]) -> list[float | None]:
    """Returns of the turns that have a reward, put back at their places."""
    waiting = iter(returns)
    return [None if reward is None else next(waiting) for reward in rewards]
