"""Does a recipe keep the order of outcomes? Decided at start, from bounds, not from samples (rewards.md, section 5.1).

Invariant: a recipe that passes :func:`check` can give no trajectory of a lower outcome a return that reaches one of a
higher outcome, whatever the facts of the two. Where two levels are equal nothing is promised between them beyond
equal facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from agent.trajectory import Outcome
from rewards.assign.min_form import MinForm
from rewards.assign.return_to_go import ReturnToGo
from rewards.combine.clip_delta import ClipDelta
from rewards.combine.d_ra import DirectAccumulation
from rewards.combine.g_ra import Gated
from rewards.combine.outcome import OutcomeOnly
from rewards.combine.renorm import Renorm
from rewards.critics.process import ProcessV2
from rewards.errors import RewardError
from rewards.normalise.token_share import TokenShare
from rewards.outcomes import ORDER, Levels
from rewards.slots import Slots
from rewards.turns import Composed, Steps, TurnChannel

Ranges = Sequence[tuple[int, float, float]]
"""Per critic: priority, least and greatest total over a trajectory."""


def check(config: Slots) -> None:
    """Raises ``ValueError`` with one sentence that names the critics, the levels and the way out."""
    names = [critic.kind for critic in config.critics]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"critic {min(twice)!r} is listed twice; give it one weight instead")
    if isinstance(config.combination, Gated):
        _gate(config, config.combination)
    _signs(config)
    _shapes(config)
    _gaps(config)
    _turns(config)


def horizon(config: Slots, turns: int) -> None:
    """Refuse a recipe whose horizon is shorter than an episode of ``turns`` turns, the most that a run allows.

    Raises :class:`RewardError`: past its horizon a discount no longer falls, and ``clip_delta`` has no bound.
    """
    short: list[tuple[str, int]] = []
    if config.outcome.discount < 1 and config.outcome.horizon < turns:
        short.append(("outcome.horizon", config.outcome.horizon))
    if isinstance(config.combination, ClipDelta) and config.combination.horizon < turns:
        short.append(("combination.horizon", config.combination.horizon))
    for name, reach in short:
        raise RewardError(
            f"recipe {config.name!r}: {name} = {reach} is less than the {turns} turns that an episode may have; "
            f"set it to {turns} or lower agent.max_turns"
        )


def span(config: Slots, outcome: Outcome) -> tuple[float, float]:
    """Least and greatest return that any trajectory with this outcome can have."""
    top = config.outcome.of(outcome)
    bottom = config.outcome.least_pass if outcome is ORDER[-1] else top
    if config.clamp is not None:
        ranges: Ranges = [(0, 0.0, config.clamp)] if config.critics else []
    else:
        ranges = [(critic.priority, *critic.bounds()) for critic in config.critics]
    return config.combination.span(bottom, ranges)[0], config.combination.span(top, ranges)[1]


def _gate(config: Slots, gate: Gated) -> None:
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


def _signs(config: Slots) -> None:
    negative = [critic.kind for critic in config.critics if critic.bounds()[0] < 0]
    if negative and config.clamp is None and not config.allow_negative:
        raise ValueError(
            f"critic {negative[0]!r} can be negative; set allow_negative = true, "
            "or clamp = c to keep the sum of step rewards in [0, c]"
        )


def _shapes(config: Slots) -> None:
    combination = config.combination
    if config.clamp is not None and not isinstance(combination, Gated | DirectAccumulation | ClipDelta):
        raise ValueError(f"clamp does not fit combination {combination.kind!r}; use it with g_ra, d_ra or clip_delta")
    if isinstance(combination, Renorm):
        levels = [config.outcome.of(outcome) for outcome in ORDER]
        if not (combination.low < combination.high and combination.low <= levels[0] <= levels[-1] <= combination.high):
            raise ValueError(
                f"renorm maps levels from [{combination.low:g}, {combination.high:g}], which must hold {levels}"
            )
    if isinstance(combination, ClipDelta) and (signed := [c.kind for c in config.critics if c.bounds()[0] < 0]):
        raise ValueError(f"clip_delta refines marks that are never negative, unlike those of critic {signed[0]!r}")


def _gaps(config: Slots) -> None:
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


def _turns(config: Slots) -> None:
    names = [channel.source.kind for channel in config.turns]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"turn source {min(twice)!r} is listed twice")
    for channel in config.turns:
        _process(channel)
        if isinstance(channel.normaliser, TokenShare) and not _sums(channel):
            raise ValueError(
                "normaliser 'token_share' needs returns that are sums: min_form, or return_to_go with gamma 1"
            )
        if isinstance(channel.source, Steps) and (not config.critics or isinstance(config.combination, OutcomeOnly)):
            raise ValueError(
                "turn source 'steps' is the critics' part of the return, and here no critic is in it; "
                "list critics under a combination that pays them"
            )
        if channel.gated and not isinstance(config.combination, Gated):
            raise ValueError(
                f"turn source {channel.source.kind!r} is gated, but combination {config.combination.kind!r} has no gate"
            )
    _negative_behind_gate(config)


def _process(channel: TurnChannel) -> None:
    if not isinstance(channel.source, ProcessV2):
        return
    if isinstance(channel.credit, ReturnToGo) and channel.credit.gamma < 1:
        raise ValueError(
            f"gamma = {channel.credit.gamma:g} with pr_v2 charges steps that improve everything; set gamma = 1"
        )
    if channel.source.terminal == "zero" and not isinstance(channel.credit, ReturnToGo):
        raise ValueError(
            "pr_v2 with terminal = 'zero' is a control variate for credit 'return_to_go' and noise elsewhere"
        )


def _sums(channel: TurnChannel) -> bool:
    credit = channel.credit
    return isinstance(credit, MinForm) or (isinstance(credit, ReturnToGo) and credit.gamma == 1.0)


def _negative_behind_gate(config: Slots) -> None:
    """A gate that zeroes a negative turn reward pays for not submitting: what it can pay must stay below the gap."""
    gate = config.combination
    if not isinstance(gate, Gated):
        return
    relief = {c.source.kind: _relief(config, c) for c in config.turns}
    closed = [outcome for outcome in ORDER if not gate.opens(config.outcome.of(outcome))]
    opened = [outcome for outcome in ORDER if gate.opens(config.outcome.of(outcome))]
    if not closed or not opened or not sum(relief.values()):
        return
    width = span(config, ORDER[-1])[1] - span(config, ORDER[0])[0]
    gap = span(config, opened[0])[0] - span(config, closed[-1])[1]
    kept = gap * config.trajectory_weight * config.normaliser.least_scale(width)
    if sum(relief.values()) >= kept:
        raise ValueError(
            f"the gate can spare {closed[-1].value} up to {sum(relief.values()):g} of negative turn reward "
            f"({', '.join(name for name, much in relief.items() if much)}), which reaches its distance {kept:g} to "
            f"{opened[0].value}; lower beta or the weight"
        )


def _relief(config: Slots, channel: TurnChannel) -> float:
    """The most negative credit that a closed gate spares a turn of this channel."""
    if isinstance(channel.source, Composed | Steps):
        stretch, top = sum(c.stretch() for c in config.critics), sum(c.bounds()[1] for c in config.critics)
    elif channel.gated:
        stretch, top = channel.source.stretch(), channel.source.bounds()[1]
    else:
        return 0.0
    low, factor = channel.credit.floor(stretch, top), channel.beta * channel.normaliser.gain()
    return -factor * low if low < 0 and factor else 0.0
