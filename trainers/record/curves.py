"""``curves.png``: the learning curves of a run, drawn from its metrics and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.record.metrics import read
from trainers.record.tally import OUTCOMES

COLOURS = {"no_submit": "#999999", "empty_patch": "#e0b000", "tests_fail": "#d05030", "tests_pass": "#208040"}


def draw(run: Path, summary: Mapping[str, Any]) -> Path:
    """Four panels into ``run/curves.png``: reward, training outcomes, held-out outcomes, learner. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read(run / "metrics.jsonl")
    steps = [record for record in records if record["kind"] == "grpo"]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(2, 2)
    _reward(panels[0][0], steps)
    _outcomes(panels[0][1], steps)
    _heldout(panels[1][0], summary["evaluations"])
    _learner(panels[1][1], [record for record in records if record["kind"] == "sft"], steps)
    new = run / ".curves.new.png"
    figure.savefig(new, dpi=110)
    return new.replace(run / "curves.png")


def _reward(axes: Any, steps: Sequence[Mapping[str, Any]]) -> None:
    seen = [(record["step"], record["reward"]) for record in steps if record["reward"] is not None]
    axes.plot([x for x, _ in seen], [y for _, y in seen], "o-", color="#3060a0")
    axes.set(title="training: mean reward of a step", xlabel="step", ylabel="composed return")


def _outcomes(axes: Any, steps: Sequence[Mapping[str, Any]]) -> None:
    for outcome in OUTCOMES:
        seen = [(record["step"], record["rates"].get(outcome)) for record in steps]
        axes.plot([x for x, _ in seen], [y for _, y in seen], "o-", color=COLOURS[outcome], label=outcome.value)
    axes.plot([r["step"] for r in steps], [r["dead_share"] for r in steps], ":", color="black", label="dead groups")
    axes.set(title="training: outcomes of a step", xlabel="step", ylabel="share", ylim=(-0.02, 1.02))
    axes.legend(fontsize=8)


def _heldout(axes: Any, evaluations: Mapping[str, Any]) -> None:
    stages = list(evaluations)
    for place, outcome in enumerate(OUTCOMES):
        found = [evaluations[stage]["rates"].get(outcome.value) for stage in stages]
        rates = [(i + (place - 1.5) * 0.2, rate) for i, rate in enumerate(found) if rate]
        spans = [[r["value"] - r["low"] for _, r in rates], [r["high"] - r["value"] for _, r in rates]]
        axes.bar([x for x, _ in rates], [r["value"] for _, r in rates], 0.18, yerr=spans, capsize=3,
                 color=COLOURS[outcome], label=outcome.value)  # fmt: skip
    axes.set_xticks(range(len(stages)), stages)
    axes.set(title="held-out: outcomes, 95 % intervals by task", ylabel="share", ylim=(0, 1.02))
    if stages:
        axes.legend(fontsize=8)


def _learner(axes: Any, sft: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> None:
    losses = [(record["batch"], record["loss"]) for record in sft if "loss" in record]
    axes.plot([x for x, _ in losses], [y for _, y in losses], color="#805090", label="warm start: loss by batch")
    norms = [(record["step"], record["learner"]["grad_norm"]) for record in steps if "grad_norm" in record["learner"]]
    axes.plot([x for x, _ in norms], [y for _, y in norms], "s-", color="#c07020", label="GRPO: gradient norm by step")
    axes.set(title="learner", xlabel="batch or step")
    axes.legend(fontsize=8)
