"""What a recipe returns for one group: returns, advantages, and where each number came from."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict


class Credit(BaseModel):
    """Credit of one group, aligned with the group's trajectories and their turns. float64 throughout."""

    model_config = ConfigDict(frozen=True)

    returns: tuple[float, ...]
    """Composed return of each trajectory before any baseline (0.0 where not ``valid``)."""
    valid: tuple[bool, ...]
    """False for infrastructure failures: outside every statistic, no credit (invariant 6)."""
    trajectory: tuple[float, ...]
    """A_traj of each trajectory."""
    turns: tuple[tuple[float, ...], ...]
    """Fused advantage of each turn, the number that is broadcast to the turn's sampled tokens."""
    parts: dict[str, tuple[float, ...]] = {}
    """Per critic (and ``outcome``): its value for each trajectory before gating."""
    turn_parts: dict[str, tuple[tuple[float, ...], ...]] = {}
    """Per turn channel, by its source: A_turn of each turn, before ``beta``."""
    betas: dict[str, float] = {}
    """Weight of each turn channel in the fused advantage."""
    gate: tuple[bool, ...] = ()
    """Whether the gate let step rewards count, per trajectory."""
    degenerate: bool = False
    """All valid final returns are equal within a relative 1e-6: A_traj is exactly 0."""

    @property
    def carries(self) -> bool:
        """Some turn has a non-zero advantage: the group teaches something."""
        return any(value != 0.0 for row in self.turns for value in row)

    def added(self, place: int) -> list[float]:
        """What turn credit adds to the advantage of each turn of one trajectory: the sum of beta * A_turn."""
        parts = [[self.betas[name] * value for value in rows[place]] for name, rows in self.turn_parts.items()]
        return [math.fsum(column) for column in zip(*parts, strict=True)] or [0.0] * len(self.turns[place])

    @property
    def turn_signal(self) -> float:
        """Mean magnitude of A_turn over all turns and channels; 0.0 without any."""
        values = [abs(value) for part in self.turn_parts.values() for row in part for value in row]
        return sum(values) / len(values) if values else 0.0
