"""What one policy-gradient step is made of, apart from playing: groups, credit, rows, and the numbers to record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from agent.trajectory import Trajectory
from rewards.credit import Credit
from trainers.components import Lessons
from trainers.learning.rows import dead, rows
from trainers.protocol import Row, Scorer
from trainers.record.tally import counts, sampled, shares
from trainers.rollout.drift import forks


@dataclass(frozen=True, slots=True)
class Scored:
    """The groups of one step with their credit."""

    groups: tuple[Sequence[Trajectory], ...]
    credits: tuple[Credit, ...]

    @property
    def rows(self) -> list[Row]:
        """Training rows of all groups that have something to learn."""
        return self.told(None)

    def told(self, lessons: Lessons | None) -> list[Row]:
        """Training rows that carry the lessons of their group."""
        pairs = zip(self.groups, self.credits, strict=True)
        return [row for group, credit in pairs for row in rows(group, credit, lessons and lessons(group))]

    @property
    def dead(self) -> tuple[bool, ...]:
        """Per group: nothing to learn."""
        return tuple(dead(credit) for credit in self.credits)

    def record(self) -> dict[str, Any]:
        """Numbers of the step; a function of the trajectories and the credit alone."""
        episodes = [trajectory for group in self.groups for trajectory in group]
        returns = [r for c in self.credits for r, valid in zip(c.returns, c.valid, strict=True) if valid]
        gates = [g for c in self.credits for g, valid in zip(c.gate, c.valid, strict=False) if valid]
        return {
            "reward": mean(returns) if returns else None,
            "outcomes": counts(episodes),
            "rates": shares(counts(episodes)),
            "dead_share": mean(self.dead),
            "degenerate_share": mean(credit.degenerate for credit in self.credits),
            "gate_share": mean(gates) if gates else None,
            "parts": self._parts(),
            **self._turn_credit(),
            "turns": mean(len(trajectory.turns) for trajectory in episodes),
            "forks": forks(episodes),
            "sampled": sampled(episodes),
        }

    def _turn_credit(self) -> dict[str, float]:
        """The turn credit that reaches the loss: ``turn_signal``, the share of the loss's tokens whose turn has any,
        and ``turn_size``, its mean magnitude over all of them."""
        tokens, told, size = 0, 0, 0.0
        for group, credit in zip(self.groups, self.credits, strict=True):
            for place, one in enumerate(group):
                if dead(credit) or not credit.valid[place]:
                    continue
                for turn, added in zip(one.turns, credit.added(place), strict=True):
                    if turn.masked:
                        continue
                    tokens += len(turn.sampled)
                    told += len(turn.sampled) * (added != 0.0)
                    size += len(turn.sampled) * abs(added)
        return {"turn_signal": told / max(1, tokens), "turn_size": size / max(1, tokens)}

    def _parts(self) -> dict[str, float]:
        """Mean of each critic before gating, over valid trajectories."""
        names = sorted({name for credit in self.credits for name in credit.parts})
        values = {
            name: [
                value
                for credit in self.credits
                for value, valid in zip(credit.parts.get(name, ()), credit.valid, strict=False)
                if valid
            ]
            for name in names
        }
        return {name: mean(found) for name, found in values.items() if found}


def score(trajectories: Sequence[Trajectory], size: int, scorer: Scorer) -> Scored:
    """Credit for consecutive groups of ``size`` trajectories."""
    groups = tuple(trajectories[i : i + size] for i in range(0, len(trajectories), size))
    return Scored(groups, tuple(scorer.score(group) for group in groups))
