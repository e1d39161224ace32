"""Counts over trajectories: the four outcomes, infrastructure, rewards. What the display, metrics and summary share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from agent.trajectory import Outcome, Trajectory
from trainers.record.statistics import Estimate, rate

OUTCOMES = (Outcome.NO_SUBMIT, Outcome.EMPTY_PATCH, Outcome.TESTS_FAIL, Outcome.TESTS_PASS)
"""In ascending order; infrastructure is none of them."""


def counts(trajectories: Iterable[Trajectory]) -> dict[str, int]:
    """Episodes by outcome, infrastructure included."""
    seen = Counter(trajectory.outcome for trajectory in trajectories)
    return {outcome.value: seen[outcome] for outcome in Outcome}


def shares(count: Mapping[str, int]) -> dict[str, float]:
    """Rates of the four outcomes among graded episodes, and ``infra`` among all. ``{}`` without episodes."""
    total = sum(count.values())
    graded = total - count.get(Outcome.INFRA, 0)
    rates = {outcome.value: count.get(outcome, 0) / graded for outcome in OUTCOMES} if graded else {}
    return {**rates, "infra": count.get(Outcome.INFRA, 0) / total} if total else {}


def by_task(trajectories: Iterable[Trajectory], outcome: Outcome) -> dict[str, list[bool]]:
    """Per task: whether each graded sample had the outcome."""
    found: dict[str, list[bool]] = defaultdict(list)
    for trajectory in trajectories:
        if trajectory.outcome is not Outcome.INFRA:
            found[trajectory.task].append(trajectory.outcome is outcome)
    return dict(found)


def estimates(trajectories: Sequence[Trajectory]) -> dict[str, Estimate]:
    """The four rates with their intervals, clustered by task."""
    rates = {outcome.value: rate(by_task(trajectories, outcome)) for outcome in OUTCOMES}
    return {name: estimate for name, estimate in rates.items() if estimate is not None}


def sampled(trajectories: Iterable[Trajectory]) -> int:
    """Sampled tokens."""
    return sum(len(turn.sampled) for trajectory in trajectories for turn in trajectory.turns)
