"""A recipe at work: a group of trajectories in, credit out.

The order is fixed: critics, combination, return, normaliser. Group statistics see valid trajectories only; a group
left with fewer than two gives no credit. Nothing here samples, reads a clock or keeps state, so that a stored group
scores bit for bit the same again (invariant 9). Sums are correctly rounded (``math.fsum``) and so do not depend on
their order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.scored import Played
from rewards.combine.channel import Channel, Combined, clamped
from rewards.config import RewardConfig
from rewards.credit import Credit
from rewards.critics.base import channel
from rewards.errors import RewardError
from rewards.facts import Group, Suite, read
from rewards.normalise.base import View
from rewards.normalise.statistics import degenerate
from rewards.order import horizon
from rewards.turns import fuse


@dataclass(frozen=True, slots=True)
class Account:
    """How the credit of a group came about: what ``dojo score`` prints."""

    group: Group
    channels: tuple[tuple[Channel, ...], ...]
    """Per member, its critics."""
    combined: tuple[Combined, ...]
    """Per member."""
    turn_rewards: dict[str, list[list[float | None]]]
    """Per turn channel, by its source: R_turn of each member and turn after gating; ``None``: no reward."""
    credit: Credit


class Recipe:
    """Scores groups under one config. ``suites`` names the F2P and P2P tests by task, for recipes that tell them
    apart."""

    def __init__(self, config: RewardConfig, suites: Mapping[str, Suite] | None = None) -> None:
        self.config = config
        self._suites = suites

    def require(self, recorded: Collection[str], turns: int | None = None) -> None:
        """Refuse at start a run that does not record what the recipe needs, ``tests`` (shadow grades) or
        ``diagnostics``, or whose episodes can have more ``turns`` than the recipe reckons with."""
        if turns is not None:
            horizon(self.config, turns)
        known = {*recorded, "suites"} if self._suites else {*recorded}
        missing = {fact: user for fact, user in self.config.needs.items() if fact not in known}
        if missing:
            names = ", ".join(f"{fact} (for {user})" for fact, user in sorted(missing.items()))
            raise RewardError(
                f"recipe {self.config.name!r} needs facts that this run does not record: {names}; "
                "agent.shadow records tests, agent.diagnostics diagnostics"
            )

    def score(self, group: Sequence[Played]) -> Credit:
        """Credit aligned with ``group``. Raises :class:`RewardError` where a fact is missing or is not a number."""
        return self.explain(group).credit

    def explain(self, group: Sequence[Played]) -> Account:
        """The credit with everything it was made from."""
        seen = read(group, self._suites)
        channels = self._channels(seen)
        combined = tuple(
            self._combine(self.config.outcome.worth(member), own, len(member.facts))
            for member, own in zip(seen.members, channels, strict=True)
        )
        totals = [one.total for one in combined]
        if not all(map(math.isfinite, totals)):
            raise RewardError("a return is not a finite number; a fact behind it must be broken")
        flat = degenerate(totals)
        advantages = [0.0] * len(totals) if flat else self.config.normaliser.trajectories(totals)
        view = View(seen, totals)
        rewards = {channel.source.kind: channel.rewards(seen, combined) for channel in self.config.turns}
        parts = {c.source.kind: c.advantages(rewards[c.source.kind], view) for c in self.config.turns}
        fused = self._fuse(seen, advantages, parts)
        if self.config.withhold_flagged:
            advantages, fused = _withheld(seen, advantages, fused)
        credit = Credit(
            returns=_spread(seen, totals, 0.0),
            valid=_spread(seen, [True] * len(totals), False),
            trajectory=_spread(seen, advantages, 0.0),
            turns=_per_turn(group, seen, fused),
            parts=self._parts(seen, channels),
            turn_parts={name: _per_turn(group, seen, part) for name, part in parts.items()},
            betas={channel.source.kind: channel.beta for channel in self.config.turns},
            gate=_spread(seen, [one.open for one in combined], False),
            degenerate=flat,
        )
        return Account(seen, channels, combined, rewards, credit)

    def _channels(self, group: Group) -> tuple[tuple[Channel, ...], ...]:
        judged = [[channel(critic, marks) for marks in critic.marks(group)] for critic in self.config.critics]
        return tuple(zip(*judged, strict=True)) if judged else ((),) * len(group.members)

    def _combine(self, outcome: float, channels: Sequence[Channel], length: int) -> Combined:
        combined = self.config.combination.combine(outcome, channels, length)
        return combined if self.config.clamp is None else clamped(combined, self.config.clamp)

    def _fuse(
        self, group: Group, advantages: Sequence[float], parts: Mapping[str, list[list[float]]]
    ) -> list[list[float]]:
        lengths = [len(member.facts) for member in group.members]
        turns = [(channel.beta, parts[channel.source.kind]) for channel in self.config.turns]
        return fuse(advantages, self.config.trajectory_weight, turns, lengths)

    def _parts(self, group: Group, channels: Sequence[Sequence[Channel]]) -> dict[str, tuple[float, ...]]:
        parts = {"outcome": _spread(group, [self.config.outcome.worth(member) for member in group.members], 0.0)}
        for index, critic in enumerate(self.config.critics):
            parts[critic.kind] = _spread(group, [own[index].value for own in channels], 0.0)
        return parts


def _spread[T](group: Group, values: Sequence[T], blank: T) -> tuple[T, ...]:
    """Values of the members, at their places in the group as it was given."""
    places = {member.place: value for member, value in zip(group.members, values, strict=True)}
    return tuple(places.get(place, blank) for place in range(group.size))


def _per_turn(group: Sequence[Played], seen: Group, fused: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    places = {member.place: tuple(values) for member, values in zip(seen.members, fused, strict=True)}
    return tuple(places.get(place, (0.0,) * len(one.turns)) for place, one in enumerate(group))


def _withheld(
    group: Group, advantages: Sequence[float], fused: Sequence[Sequence[float]]
) -> tuple[list[float], list[list[float]]]:
    """No positive credit for a trajectory whose grade is flagged (rewards.md, section 5.7)."""
    flags = [member.flagged for member in group.members]
    return (
        [min(value, 0.0) if flag else value for flag, value in zip(flags, advantages, strict=True)],
        [[min(value, 0.0) if flag else value for value in row] for flag, row in zip(flags, fused, strict=True)],
    )
