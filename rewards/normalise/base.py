"""What a normaliser of turn returns does: subtract a baseline within the group.

A turn without a return (``None``) gets an advantage of exactly 0 and enters no statistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rewards.facts import Group

TurnReturns = Sequence[Sequence[float | None]]
"""Per member and turn."""


@dataclass(frozen=True, slots=True)
class View:
    """What a normaliser may look at besides the values."""

    group: Group
    totals: Sequence[float]
    """Per member, its composed return."""


class TurnNormaliser(Protocol):
    """The face of a normaliser of turn returns."""

    biased: ClassVar[bool]

    def turns(self, values: TurnReturns, view: View) -> list[list[float]]:
        """Advantages in the shape of ``values``. Called only when the values differ and two members or more are
        valid."""
        ...

    def gain(self) -> float:
        """Greatest factor by which a difference of two turn returns can grow; infinite after a division."""
        ...


def pooled(values: TurnReturns) -> list[float]:
    """All returns of a group, in order."""
    return [value for row in values for value in row if value is not None]


def entries(values: TurnReturns) -> Iterator[tuple[int, int, float]]:
    """(member, turn, return) of every return, in order."""
    for member, row in enumerate(values):
        for turn, value in enumerate(row):
            if value is not None:
                yield member, turn, value
