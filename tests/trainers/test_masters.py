"""Half precision keeps masters in float32; recomputing keeps less; rates are functions of the step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from trainers.config import LossConfig, OptimConfig, SftConfig
from trainers.learning.learner import TransformersLearner
from trainers.learning.schedule import policy_rate
from trainers.model.load import Model, tiny
from trainers.model.masters import masters
from trainers.protocol import Row

ROWS = [
    Row(
        ids=(1, 2, *range(10 + s, 40 + s)),
        mask=(False, False, *(True,) * 30),
        logprobs=(0.0, 0.0, *(-5.5,) * 30),
        advantages=(0.0, 0.0, *(1.0 if s else -1.0,) * 30),
        rollout=str(s),
        group="0",
    )
    for s in range(2)
]


def half() -> Model:
    model = tiny(3)
    model.net.to(torch.bfloat16)
    return model


def learner(model: Model, **optim: object) -> TransformersLearner:
    given = OptimConfig.model_validate({"layers": 2, **optim})
    return TransformersLearner(model, given, LossConfig(length=32), SftConfig(), 1.0)


def test_small_steps_add_up_in_masters_where_they_would_be_lost_in_half_precision() -> None:
    one = learner(half(), lr=1e-5)
    name = next(name for name in one.parameters if "mlp" in name)
    before = one.optimiser.masters[name].clone()
    assert one.optimiser.masters[name].dtype == torch.float32 and one.parameters[name].dtype == torch.bfloat16
    for _ in range(3):
        one.update(ROWS)
    moved = (one.optimiser.masters[name] - before).abs()
    assert float(moved.median()) > 1e-5, "three steps of 1e-5 in one direction"
    assert torch.equal(one.parameters[name], one.optimiser.masters[name].bfloat16())
    still = (one.parameters[name] == before.bfloat16()).float().mean()
    assert still > 0.5, "most weights in bfloat16 have not moved yet: their masters have"


def test_full_precision_is_its_own_master() -> None:
    parameters = {"w": torch.nn.Parameter(torch.ones(3))}
    assert masters(parameters)["w"] is parameters["w"]


def test_masters_survive_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    one, other = learner(half(), lr=1e-5), learner(half(), lr=1e-5)
    one.update(ROWS)
    one.save(tmp_path)
    other.load(tmp_path)
    for some in (one, other):
        some.update(ROWS)
    assert all(
        torch.equal(one.optimiser.masters[name], other.optimiser.masters[name]) for name in one.optimiser.masters
    )
    assert other.stepped == 2


def test_recomputing_keeps_less_for_the_backward_pass() -> None:
    kept = {}
    for again in (False, True):
        one, bytes_kept = learner(tiny(3, layers=6), layers=6, checkpointing=again), [0]

        def pack(tensor: torch.Tensor, counter: list[int] = bytes_kept) -> torch.Tensor:
            counter[0] += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            one.gradient(ROWS)
        kept[again] = bytes_kept[0]
    assert kept[False] > 0
    assert kept[True] < kept[False] / 4


@pytest.mark.parametrize(
    ("optim", "rates"),
    [
        ({}, {0: 1.0, 99: 1.0}),
        ({"warmup": 4}, {0: 0.25, 3: 1.0, 50: 1.0}),
        ({"schedule": "linear", "horizon": 10}, {0: 1.0, 5: 0.55, 10: 0.1, 99: 0.1}),
        ({"schedule": "cosine", "horizon": 10}, {0: 1.0, 5: 0.55, 10: 0.1}),
        ({"schedule": "cosine", "horizon": 14, "warmup": 4}, {0: 0.25, 4: 1.0, 9: 0.55, 14: 0.1}),
    ],
)
def test_rates_rise_and_fall_as_the_schedule_says(optim: dict[str, object], rates: dict[int, float]) -> None:
    config = OptimConfig.model_validate({"lr": 1.0, **optim})
    assert {step: policy_rate(config, step) for step in rates} == pytest.approx(rates)


def test_the_learner_steps_at_the_scheduled_rate_and_a_schedule_needs_its_end() -> None:
    one = learner(tiny(3), lr=1.0e-4, warmup=2)
    assert [one.update(ROWS)["lr"] for _ in range(3)] == pytest.approx([0.5e-4, 1e-4, 1e-4])
    with pytest.raises(ValidationError, match=r"needs optim\.horizon"):
        OptimConfig(schedule="linear")
