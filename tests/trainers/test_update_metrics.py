"""What an update shows, against the same numbers reckoned another way on the inputs of the golden table."""

from __future__ import annotations

from math import exp
from typing import Any

import pytest
import torch
from closed_form import ADVANTAGE, BIG, MASK, NOW, OLD, REFERENCE, ROW, SAMPLER, SMALL

from trainers.config import LossConfig
from trainers.learning.update_metrics import UpdateMetrics
from trainers.losses.tokens import Tokens


def tokens(rows: list[int] | None = None, **changed: torch.Tensor) -> Tokens:
    """All rows of the table, or some."""
    grids = {"now": NOW, "old": OLD, "sampler": SAMPLER, "advantage": ADVANTAGE, "reference": REFERENCE, **changed}
    chosen = MASK if rows is None else MASK & torch.isin(ROW.long(), torch.tensor(rows))
    return Tokens(rollout=ROW.long()[chosen], **{name: grid[chosen].double() for name, grid in grids.items()})


def shown(config: dict[str, Any], *parts: Tokens) -> dict[str, float]:
    found = UpdateMetrics()
    for part in parts:
        found.add(LossConfig.model_validate(config), part, torch.full_like(part.now, 1.5), 0.25)
    return found.numbers()


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_means_are_over_tokens_and_ratio_and_kl_are_between_sampler_and_trainer() -> None:
    every = tokens()
    logs = [float(x) for x in every.now - every.sampler]
    got = shown({}, tokens([0, 1]), tokens([2, 3]))
    assert got["tokens"] == len(logs) == 14 and got["loss"] == 0.5 and got["entropy"] == 1.5
    assert got["ratio_mean"] == pytest.approx(mean([exp(x) for x in logs]))
    assert (got["ratio_max"], got["ratio_min"]) == pytest.approx((exp(max(logs)), exp(min(logs))))
    assert got["kl"] == pytest.approx(mean([exp(x) - 1 - x for x in logs]))
    assert got["logprob"] == pytest.approx(float(every.now.mean()))


def test_the_clip_share_counts_the_tokens_whose_gradient_the_clip_takes() -> None:
    every = tokens(old=BIG)
    logs = [float(x) for x in every.now - every.old]
    credit = [float(x) for x in every.advantage]
    taken = [(a > 0 and exp(x) > 1.28) or (a < 0 and exp(x) < 0.8) for x, a in zip(logs, credit, strict=True)]
    assert shown({"policy": {"kind": "clip", "high": 0.28}}, tokens(old=NOW - 1))["clip_share"] == 10 / 14
    assert shown({"policy": {"kind": "clip", "high": 0.28}}, every)["clip_share"] == sum(taken) / 14


@pytest.mark.parametrize(
    ("policy", "share"),
    [
        # The ratio is e on every token: those with credit above 0 are clipped.
        ({"kind": "gspo", "low": 0.3, "high": 0.4}, 10 / 14),
        ({"kind": "cispo", "cap": 2.0}, 1.0),
        ({"kind": "cispo", "cap": 5.0}, 0.0),
        ({"kind": "sapo"}, 0.0),
        # exp(now) - exp(now - 1) is above 0.1 wherever exp(now) is above 0.158: everywhere.
        ({"kind": "dppo", "bound": 0.1}, 10 / 14),
    ],
)
def test_every_policy_loss_says_how_many_tokens_its_bound_meets(policy: dict[str, Any], share: float) -> None:
    assert shown({"policy": policy}, tokens(old=NOW - 1))["clip_share"] == share


def test_corrections_forgotten_sequences_and_the_distance_to_the_reference_are_shown_where_the_loss_has_them() -> None:
    every = tokens()
    assert not {"corrected_share", "forgotten_share", "taught_share"} & shown({}, every).keys()
    weights = [exp(float(x)) for x in every.old - every.sampler]
    capped = shown({"correction": {"cap": 1.1}}, tokens([0, 2]), tokens([1, 3]))
    assert capped["corrected_share"] == sum(w > 1.1 for w in weights) / 14 > 0
    assert shown({"opsm": 0.05}, tokens(old=SMALL, sampler=SMALL))["forgotten_share"] == 3 / 14
    d = [float(x) for x in (every.reference if every.reference is not None else every.now) - every.now]
    assert shown({"kl": {}}, every)["reference_kl"] == pytest.approx(mean([exp(x) - x - 1 for x in d]))


def test_ranks_together_show_what_one_would() -> None:
    config = LossConfig.model_validate({"correction": {"cap": 1.1}})
    parts = [UpdateMetrics(), UpdateMetrics()]
    for part, given in zip(parts, (tokens([0]), tokens([1, 2, 3])), strict=True):
        part.add(config, given, torch.zeros_like(given.now), 0.25)
    parts[1].taught(torch.tensor([0.5, 0.0, -0.25]))
    got, alone = (
        UpdateMetrics.merged(parts).numbers(),
        shown({"correction": {"cap": 1.1}}, tokens([0]), tokens([1, 2, 3])),
    )
    assert (got["taught_share"], got["teacher_gap"]) == (2 / 14, 0.25 / 14)
    assert {k: got[k] for k in alone if k != "entropy"} == pytest.approx({k: alone[k] for k in alone if k != "entropy"})
