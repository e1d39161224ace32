"""Does a recipe keep the order of outcomes? Decided at start, from bounds, not from samples (rewards.md, section 5.1).

Invariant: a recipe that passes :func:`check` can give no trajectory of a lower outcome a return that reaches one of a
higher outcome, whatever the facts of the two. Where two levels are equal nothing is promised between them beyond
equal facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rewards.combine.g_ra import Gated
from rewards.outcomes import ORDER, Levels

if TYPE_CHECKING:
    from agent.trajectory import Outcome
    from rewards.config import RewardConfig

Ranges = Sequence[tuple[int, float, float]]
"""Per critic: priority, least and greatest total over a trajectory."""


def check(config: RewardConfig) -> None:
    """Raises ``ValueError`` with one sentence that names the critics, the levels and the way out."""
    names = [critic.kind for critic in config.critics]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"critic {min(twice)!r} is listed twice; give it one weight instead")
    if isinstance(config.combination, Gated):
        _gate(config, config.combination)
    _signs(config)
    _gaps(config)


def span(config: RewardConfig, outcome: Outcome) -> tuple[float, float]:
    """Least and greatest return that any trajectory with this outcome can have."""
    top = config.outcome.of(outcome)
    bottom = config.outcome.least_pass if outcome is ORDER[-1] else top
    if config.clamp is not None:
        ranges: Ranges = [(0, 0.0, config.clamp)] if config.critics else []
    else:
        ranges = [(critic.priority, *critic.bounds()) for critic in config.critics]
    return config.combination.span(bottom, ranges)[0], config.combination.span(top, ranges)[1]


def _gate(config: RewardConfig, gate: Gated) -> None:
    for critic in config.critics:
        if critic.priority > gate.priority:
            raise ValueError(
                f"critic {critic.kind!r} has priority {critic.priority}, above the outcome's {gate.priority}: "
                "a step reward may not gate the outcome"
            )
        low, high = critic.bounds()
        if critic.threshold not in (float("-inf"), float("inf")) and not low < critic.threshold <= high:
            raise ValueError(
                f"threshold {critic.threshold:g} of critic {critic.kind!r} separates nothing: "
                f"its values lie in [{low:g}, {high:g}]"
            )
    if gate.threshold in (float("-inf"), float("inf")) or separates(config.outcome, gate):
        return
    levels = ", ".join(f"{outcome.value} {config.outcome.of(outcome):g}" for outcome in ORDER)
    raise ValueError(f"threshold {gate.threshold:g} of the gate lies between no two outcome levels ({levels})")


def separates(levels: Levels, gate: Gated) -> bool:
    """Some outcome stays closed and some outcome opens the gate."""
    return len({gate.opens(level) for level in (*map(levels.of, ORDER), levels.least_pass)}) == 2


def _signs(config: RewardConfig) -> None:
    negative = [critic.kind for critic in config.critics if critic.bounds()[0] < 0]
    if negative and config.clamp is None and not config.allow_negative:
        raise ValueError(
            f"critic {negative[0]!r} can be negative; set allow_negative = true, "
            "or clamp = c to keep the sum of step rewards in [0, c]"
        )


def _gaps(config: RewardConfig) -> None:
    for lower, upper in pairwise(ORDER):
        if config.outcome.of(lower) == config.outcome.of(upper):
            continue
        reach, floor = span(config, lower)[1], span(config, upper)[0]
        if not reach < floor:
            names = ", ".join(critic.kind for critic in config.critics) or "the critics"
            raise ValueError(
                f"step rewards can cross the gap between {lower.value} (up to {reach:g}) and {upper.value} "
                f"(from {floor:g}); lower the weights of {names} or set clamp"
            )
