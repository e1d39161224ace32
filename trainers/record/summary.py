"""``summary.json``: what a run showed, computed from its files alone.

For each evaluation the four outcome rates with 95 % intervals clustered by task, and the infrastructure share apart;
for each pair of evaluations the paired difference of the resolve rate; for training the shares that tell whether
there was anything to learn from; the time by phase. The *finding* says in one sentence whether the held-out resolve
rate rose beyond its interval, also when it did not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from agent.store import Store
from agent.trajectory import Outcome, Trajectory
from trainers.record.auditor import report
from trainers.record.checkpoint import State
from trainers.record.metrics import read
from trainers.record.statistics import Estimate, difference
from trainers.record.tally import by_task, counts, estimates, shares

STAGES = {"before": "before training", "warm": "after the warm start", "after": "after GRPO"}
"""The evaluations in order, in words."""


NO_STEPS = " No policy-gradient step fitted into the budget: what changed, the warm start did."


def _steps(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(record["kind"] == "grpo" for record in records)


def summarise(run: Path, state: State) -> dict[str, Any]:
    """The summary of a run's folder."""
    played = {stage: evaluation(run, stage) for stage in STAGES}
    played = {stage: trajectories for stage, trajectories in played.items() if trajectories}
    records = read(run / "metrics.jsonl")
    return {
        "finding": finding(played) + ("" if _steps(records) or "after" not in played else NO_STEPS),
        "evaluations": {stage: evaluated(trajectories) for stage, trajectories in played.items()},
        "resolve_differences": {
            f"{later} - {earlier}": _dump(resolve_difference(played[earlier], played[later]))
            for earlier, later in combinations(played, 2)
        },
        "training": training(records),
        "audit": report(records),
        "warm_start_batches": state.batch,
        "seconds": {**state.seconds, "all": state.elapsed},
        "config": state.config,
    }


def write(run: Path, state: State) -> dict[str, Any]:
    """Summarise into ``summary.json``, whole or not at all."""
    found, new = summarise(run, state), run / ".summary.json.new"
    with new.open("w") as file:
        json.dump(found, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(run / "summary.json")
    return found


def evaluation(run: Path, stage: str) -> list[Trajectory]:
    """The episodes of one evaluation, each key once; ``[]`` when it was not made."""
    path = run / f"evals-{stage}.jsonl"
    return list({t.key: t for t in Store(path).read()}.values()) if path.exists() else []


def evaluated(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """The four rates with intervals, and what was left out of them."""
    count = counts(trajectories)
    return {
        "rates": {name: _dump(estimate) for name, estimate in estimates(trajectories).items()},
        "outcomes": count,
        "infra_rate": shares(count).get("infra", 0.0),
        "episodes": len(trajectories),
        "tasks": len({trajectory.task for trajectory in trajectories}),
    }


def resolve_difference(before: Sequence[Trajectory], after: Sequence[Trajectory]) -> Estimate | None:
    """Paired difference of the resolve rate, by task."""
    return difference(by_task(before, Outcome.TESTS_PASS), by_task(after, Outcome.TESTS_PASS))


def training(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals and shares over the policy-gradient steps."""
    steps = [record for record in records if record["kind"] == "grpo"]
    count = {o.value: sum(record["outcomes"][o.value] for record in steps) for o in Outcome}
    timing = {part: sum(record["timing"][part] for record in steps) for part in ("play", "update")}
    return {
        "steps": len(steps),
        "updates": sum(bool(record["learner"]) for record in steps),
        "episodes": sum(count.values()),
        "outcomes": count,
        "rates": shares(count),
        "dead_share": _mean([record["dead_share"] for record in steps]),
        "degenerate_share": _mean([record["degenerate_share"] for record in steps]),
        "turn_signal": _mean([record["turn_signal"] for record in steps if "turn_signal" in record]),
        "reward_share": _mean([r["timing"]["reward_share"] for r in steps if "reward_share" in r["timing"]]),
        "sampled_tokens": sum(record["sampled"] for record in steps),
        "seconds": timing,
    }


def finding(played: Mapping[str, Sequence[Trajectory]]) -> str:
    """One sentence on the held-out resolve rate from the first evaluation to the last, one on GRPO's part in it."""
    if len(played) < 2:
        return "No two evaluations were made, so nothing can be said about what training changed."
    first, *_, last = played
    apart = f" {of_grpo(played['warm'], played['after'])}" if len(played) == len(STAGES) else ""
    return _resolved(played, first, last) + apart


def _resolved(played: Mapping[str, Sequence[Trajectory]], first: str, last: str) -> str:
    change = resolve_difference(played[first], played[last])
    if change is None:
        return "No task was graded in both evaluations, so nothing can be said about what training changed."
    span = f"from {STAGES[first]} to {STAGES[last]} (paired difference {change})"
    if change.low > 0:
        return f"The held-out resolve rate rose {span}: beyond its 95 % interval."
    if change.high < 0:
        return f"The held-out resolve rate fell {span}: beyond its 95 % interval."
    return f"The held-out resolve rate did not change beyond its 95 % interval {span}."


def of_grpo(warm: Sequence[Trajectory], after: Sequence[Trajectory]) -> str:
    """One sentence on what GRPO changed by itself: the resolve rate, and every outcome beyond its interval."""
    moved = {o: change for o in Outcome if (change := difference(by_task(warm, o), by_task(after, o)))}
    beyond = [f"{o} {c.value:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" for o, c in moved.items() if c.low > 0 or c.high < 0]
    said = f"beyond its interval changed {', '.join(beyond)}" if beyond else "no outcome changed beyond its interval"
    resolved = moved.get(Outcome.TESTS_PASS)
    return f"After the warm start GRPO changed it by {resolved}; {said}." if resolved else ""


def table(found: Mapping[str, Any]) -> list[str]:
    """The summary as lines of text for a terminal and a log."""
    out: list[str] = []
    for stage, result in found["evaluations"].items():
        rates = ", ".join(
            f"{name} {rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]"
            for name, rate in result["rates"].items()
        )
        size = f"{result['episodes']} episodes of {result['tasks']} tasks, infrastructure {result['infra_rate']:.3f}"
        out.append(f"{STAGES[stage]}: {rates} ({size})")
    for pair, change in found["resolve_differences"].items():
        if change:
            out.append(f"resolve rate {pair}: {change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]")
    out += [f"audit: {warning}" for warning in found["audit"]["warnings"]]
    return [*out, found["finding"]]


def _dump(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.model_dump()


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
