"""Counterfactual: the same stored groups under two recipes, side by side.

What a run would have taught under another recipe, with no model, docker or language server: how many groups carry
signal, how well each recipe's advantages agree in rank with the outcome, which trajectories change sign, and what the
audit of either would have said. Groups are taken a step at a time and forgotten, so that memory stays flat.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.scored import Played
from rewards.audit import Audit
from rewards.credit import Credit
from rewards.outcomes import ORDER
from rewards.recipe import Recipe

SHOWN = 20
"""Sign changes that the text lists."""
KEPT = 1000
"""Sign changes that are kept with their names; the others are counted."""


@dataclass(slots=True)
class Side:
    """Counts of one recipe over all groups."""

    name: str
    groups: int = 0
    carrying: int = 0
    degenerate: int = 0
    turn_signal: float = 0.0
    audit: Audit = field(default_factory=Audit)
    """Of the training steps, as a run under this recipe would have kept it."""
    _pairs: int = 0
    _agreement: int = 0

    def add(self, step: Sequence[Sequence[Played]], credits: Sequence[Credit]) -> None:
        """Count the groups of one step."""
        for group, credit in zip(step, credits, strict=True):
            self._count(group, credit)
        if step[0][0].key.step >= 0:
            self.audit.add(step, credits)

    def _count(self, group: Sequence[Played], credit: Credit) -> None:
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
            "warnings": self.audit.warnings(),
        }


@dataclass(slots=True)
class Comparison:
    """Two recipes over the same groups."""

    first: Side
    second: Side
    changed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The first :data:`KEPT` trajectories whose mean advantage changes sign."""
    changes: int = 0
    """How many there are."""

    def change(self, found: Iterable[dict[str, Any]]) -> None:
        """Count sign changes."""
        for row in found:
            self.changes += 1
            if len(self.changed) < KEPT:
                self.changed.append(row)

    @property
    def data(self) -> dict[str, Any]:
        """Ready for JSON."""
        sides = [self.first.data(), self.second.data()]
        return {"recipes": sides, "changes": self.changes, "sign_changes": self.changed}

    @property
    def text(self) -> str:
        """Side by side, then the changed trajectories."""
        sides = (self.first, self.second)
        audits = [f"audit of {side.name}: {warning}" for side in sides for warning in side.audit.warnings()]
        table = _side_by_side(self.first.data(), self.second.data())
        return "\n".join([*table, "", *_changes(self.changed, self.changes), *audits])


Steps = Iterator[Sequence[Sequence[Played]]]


def by_step(groups: Iterable[Sequence[Played]]) -> Steps:
    """The groups of each training step together, as the audit sees them; groups of evaluations one by one, so that
    memory stays flat."""
    for step, found in itertools.groupby(groups, key=lambda group: group[0].key.step):
        if step >= 0:
            yield list(found)
        else:
            yield from ([group] for group in found)


def compare(groups: Iterable[Sequence[Played]], first: Recipe, second: Recipe) -> Comparison:
    """Score each group under both recipes. Raises :class:`rewards.errors.RewardError` for a missing fact."""
    made = Comparison(Side(first.config.name), Side(second.config.name))
    for step in by_step(groups):
        one, two = [first.score(group) for group in step], [second.score(group) for group in step]
        made.first.add(step, one)
        made.second.add(step, two)
        for group, before, after in zip(step, one, two, strict=True):
            made.change(_changed(group, before, after))
    return made


def mean_advantage(credit: Credit, place: int) -> float:
    """Mean over turns of the fused advantage; A_traj for an episode without turns."""
    turns = credit.turns[place]
    return sum(turns) / len(turns) if turns else credit.trajectory[place]


def _ranked(group: Sequence[Played], credit: Credit) -> list[tuple[int, float]]:
    return [
        (ORDER.index(one.outcome), mean_advantage(credit, place))
        for place, one in enumerate(group)
        if credit.valid[place] and one.outcome in ORDER
    ]


def _changed(group: Sequence[Played], one: Credit, two: Credit) -> Iterator[dict[str, Any]]:
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


def _changes(changed: Sequence[dict[str, Any]], count: int) -> Iterator[str]:
    yield f"{count} trajectories change sign"
    for row in changed[:SHOWN]:
        yield f"  {row['key']:14} {row['outcome']:12} {row['before']:+.4f} -> {row['after']:+.4f}  {row['task']}"
    if count > SHOWN:
        yield f"  and {count - SHOWN} more"
