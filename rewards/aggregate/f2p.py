"""F2P scaled by P2P regressions (ours): ``R = (share of F2P passed) * (share of P2P passed) ** power``.

What the grade asks for, made dense: progress on the tests that must be fixed, discounted by what was broken on the
way. The empty patch gets 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.errors import RewardError
from rewards.facts import Grades, Suite
from rewards.option import Option, Positive


class FixedUnbroken(Option):
    kind: Literal["f2p"] = "f2p"
    power: Positive = 1.0
    """How hard a regression hits."""

    def values(self, grades: Grades, suite: Suite | None) -> list[float]:
        """Per attempt, in [0, 1]. Raises :class:`RewardError` when the tests of the task are not known by kind."""
        if suite is None or not suite.f2p:
            raise RewardError("aggregation 'f2p' needs to know which tests are F2P and which are P2P")
        fixed, kept = _places(grades, frozenset(suite.f2p)), _places(grades, frozenset(suite.p2p))
        return [_share(row, fixed) * _share(row, kept) ** self.power for row in grades.rows]

    def top(self) -> float:
        """Greatest possible value."""
        return 1.0


def _places(grades: Grades, wanted: frozenset[str]) -> list[int]:
    if missing := sorted(wanted - set(grades.names)) if grades.names else []:
        raise RewardError(f"aggregation 'f2p': {len(missing)} tests were not graded, among them {missing[0]}")
    return [place for place, name in enumerate(grades.names) if name in wanted]


def _share(row: str, places: Sequence[int]) -> float:
    return sum(row[place] == "1" for place in places) / len(places) if places else 1.0
