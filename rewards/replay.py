"""Counterfactual: the same stored groups under two recipes, side by side.

What a run would have taught under another recipe, with no model, docker or language server: how many groups carry
signal, how well each recipe's advantages agree in rank with the outcome, and which trajectories change sign. Groups
are taken one at a time and forgotten, so that memory stays flat.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.trajectory import Trajectory
from rewards.credit import Credit
from rewards.outcomes import ORDER
from rewards.recipe import Recipe

SHOWN = 20
"""Sign changes that the text lists."""


@dataclass(slots=True)
class Side:
    """Counts of one recipe over all groups."""

    name: str
    groups: int = 0
    carrying: int = 0
    degenerate: int = 0
    turn_signal: float = 0.0
    _pairs: int = 0
    _agreement: int = 0

    def add(self, group: Sequence[Trajectory], credit: Credit) -> None:
        """Count one group."""
        self.groups += 1
        self.carrying += credit.carries
        self.degenerate += credit.degenerate
        self.turn_signal += credit.turn_signal
        for left, right in itertools.combinations(_ranked(group, credit), 2):
            if left[0] != right[0]:
                self._pairs += 1
                self._agreement += _sign(left[0] - right[0]) * _sign(left[1] - right[1])

    def data(self) -> dict[str, Any]:
        """Shares and means; ``None`` where there was nothing to measure."""
        return {
            "recipe": self.name,
            "groups": self.groups,
            "carrying": self.carrying,
            "degenerate": self.degenerate,
            "turn_signal": self.turn_signal / self.groups if self.groups else None,
            "rank_agreement": self._agreement / self._pairs if self._pairs else None,
        }


@dataclass(slots=True)
class Comparison:
    """Two recipes over the same groups."""

    first: Side
    second: Side
    changed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Trajectories whose mean advantage changes sign."""

    @property
    def data(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"recipes": [self.first.data(), self.second.data()], "sign_changes": self.changed}

    @property
    def text(self) -> str:
        """Side by side, then the changed trajectories."""
        return "\n".join([*_side_by_side(self.first.data(), self.second.data()), "", *_changes(self.changed)])


def groups(trajectories: Iterable[Trajectory]) -> Iterator[list[Trajectory]]:
    """Consecutive trajectories of one (step, prompt) as groups, lazily: what a run writes group by group is read so."""
    for _, found in itertools.groupby(trajectories, key=lambda t: (t.key.seed, t.key.step, t.key.prompt, t.task)):
        yield list(found)


def compare(groups: Iterable[Sequence[Trajectory]], first: Recipe, second: Recipe) -> Comparison:
    """Score each group under both recipes. Raises :class:`rewards.errors.RewardError` for a missing fact."""
    made = Comparison(Side(first.config.name), Side(second.config.name))
    for group in groups:
        one, two = first.score(group), second.score(group)
        made.first.add(group, one)
        made.second.add(group, two)
        made.changed += _changed(group, one, two)
    return made


def mean_advantage(credit: Credit, place: int) -> float:
    """Mean over turns of the fused advantage; A_traj for an episode without turns."""
    turns = credit.turns[place]
    return sum(turns) / len(turns) if turns else credit.trajectory[place]


def _ranked(group: Sequence[Trajectory], credit: Credit) -> list[tuple[int, float]]:
    return [
        (ORDER.index(one.outcome), mean_advantage(credit, place))
        for place, one in enumerate(group)
        if credit.valid[place] and one.outcome in ORDER
    ]


def _changed(group: Sequence[Trajectory], one: Credit, two: Credit) -> Iterator[dict[str, Any]]:
    for place, trajectory in enumerate(group):
        before, after = mean_advantage(one, place), mean_advantage(two, place)
        if before * after < 0:
            yield {
                "key": str(trajectory.key),
                "task": trajectory.task,
                "outcome": trajectory.outcome.value,
                "before": before,
                "after": after,
            }


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _side_by_side(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    words = {
        "recipe": "recipe",
        "groups": "groups",
        "carrying": "groups that carry signal",
        "degenerate": "groups with equal returns",
        "turn_signal": "mean |A_turn|",
        "rank_agreement": "rank agreement with the outcome",
    }
    for key, word in words.items():
        yield f"{word:<32}{_cell(first[key]):>16}{_cell(second[key]):>16}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _changes(changed: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"{len(changed)} trajectories change sign"
    for row in changed[:SHOWN]:
        yield f"  {row['key']:14} {row['outcome']:12} {row['before']:+.4f} -> {row['after']:+.4f}  {row['task']}"
    if len(changed) > SHOWN:
        yield f"  and {len(changed) - SHOWN} more"
