"""One step: what it changes, what it refuses, what it keeps over a save."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from trainers.config import Kl, LossConfig, OptimConfig, SftConfig
from trainers.learning.learner import TransformersLearner
from trainers.learning.schedule import rate
from trainers.learning.state_files import load_weights
from trainers.model.load import tiny
from trainers.model.logprobs import logprobs
from trainers.model.tokenizer import ModelError
from trainers.protocol import Row

SFT = SftConfig(examples=40, batch=4, lr=3e-3)


def learner(seed: int = 0, loss: LossConfig | None = None, **optim: object) -> TransformersLearner:
    settings = OptimConfig.model_validate({"layers": 2, "lr": 1e-3, **optim})
    return TransformersLearner(tiny(seed), settings, loss or LossConfig(), SFT, 0.8)


def rows(seed: int = 0, count: int = 4) -> list[Row]:
    chance = random.Random(seed)
    out: list[Row] = []
    for sample in range(count):
        ids = tuple(chance.choices(range(256), k=12))
        mask = (False,) * 5 + (True,) * 7
        credit = (0.0,) * 5 + (float(2 * (sample % 2) - 1),) * 7
        out.append(Row(ids, mask, (0.0,) * 5 + (-5.5,) * 7, credit, f"r{sample}", "g"))
    return out


def snapshot(of: TransformersLearner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.model.net.state_dict().items()}


def changed(before: dict[str, torch.Tensor], of: TransformersLearner) -> set[str]:
    return {name for name, value in of.model.net.state_dict().items() if not torch.equal(before[name], value)}


def test_an_update_changes_the_last_layers_and_the_final_norm_and_nothing_else() -> None:
    one = learner()
    before = snapshot(one)
    numbers = one.update(rows())
    assert {name.split(".")[2] if "layers" in name else name for name in changed(before, one)} == {
        "2",
        "3",
        "model.norm.weight",
    }
    assert one.model.version == 1
    assert numbers["grad_norm"] > 0 and numbers["tokens"] == 28


def test_credit_raises_what_it_praises_and_lowers_what_it_blames() -> None:
    one, given = learner(), rows()
    for _ in range(8):
        one.update(given)
    good, bad = given[1::2], given[0::2]
    assert mean_logprob(one, good) > mean_logprob(learner(), good)
    assert mean_logprob(one, bad) < mean_logprob(learner(), bad)


def mean_logprob(of: TransformersLearner, given: list[Row]) -> float:
    return logprobs_of(of, given, 1.0).mean().item()


def logprobs_of(of: TransformersLearner, given: list[Row], temperature: float) -> torch.Tensor:
    """Of the sampled tokens, without learning (rate 0 at the end of a zero-length schedule would still step)."""
    from trainers.learning.batch import micros
    from trainers.model.forward import flatten, forward

    with torch.no_grad():
        return forward(of.model.net, flatten(micros([[row] for row in given], 9999)[0]), temperature)[0]


def test_imitation_learns_what_it_is_shown() -> None:
    one, given = learner(), rows()
    losses = [one.imitate(given)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0] - 0.1
    assert losses[0] == pytest.approx(-mean_logprob(learner(), given), abs=1e-4)


def test_without_credit_nothing_is_stepped() -> None:
    one = learner()
    before = snapshot(one)
    numbers = one.update([replace(row, advantages=(0.0,) * 12) for row in rows()])
    assert not changed(before, one) and one.model.version == 0
    assert numbers["tokens"] == numbers["live"] == 0 and numbers["rollouts"] == 4


def test_credit_on_a_token_that_was_not_sampled_raises() -> None:
    broken = replace(rows()[0], advantages=(1.0,) + (0.0,) * 11)
    with pytest.raises(ValueError, match="not sampled"):
        learner().update([broken])


def test_a_row_that_begins_with_a_sampled_token_raises() -> None:
    with pytest.raises(ValueError, match="no context"):
        learner().imitate([replace(rows()[0], mask=(True,) * 12)])


def test_tokens_without_a_recorded_log_probability_carry_no_loss_and_are_counted() -> None:
    whole = rows()
    holes = [replace(row, logprobs=(*row.logprobs[:-2], math.nan, math.nan)) for row in whole]
    numbers = learner().update(holes)
    assert numbers["missing"] == 8 and numbers["tokens"] == 20
    assert math.isfinite(numbers["loss"]) and math.isfinite(numbers["grad_norm"])


def test_a_gradient_that_is_not_finite_is_thrown_away() -> None:
    one = learner()
    before = snapshot(one)
    numbers = one.update([replace(row, advantages=(0.0,) * 11 + (math.inf,)) for row in rows()])
    assert numbers["skipped"] == 1 and not changed(before, one)


def test_the_penalty_is_zero_at_the_reference_and_grows_away_from_it() -> None:
    one = learner(loss=LossConfig(kl=Kl(estimator="k2", weight=1.0)))
    plain = learner()
    assert one.update(rows())["loss"] == pytest.approx(plain.update(rows())["loss"], abs=1e-6)
    assert one.update(rows())["loss"] > plain.update(rows())["loss"]


@pytest.mark.parametrize("offload", [None, True])
def test_with_adapters_the_reference_is_the_model_with_the_adapters_as_they_began(offload: bool | None) -> None:
    """Adapters begin at 0, so that without a supervised start the reference is the model without them."""
    one, bare, given = learner(lora=2, loss=LossConfig(kl=Kl(weight=0.1, offload=offload))), learner(), rows()
    for _ in range(3):
        one.update(given)
    assert one.reference and all("lora_" in name for name in one.reference)
    d = logprobs_of(bare, given, 0.8) - logprobs_of(one, given, 0.8)
    wanted = float((d.exp() - d - 1).mean())
    assert one.update(given)["reference_kl"] == pytest.approx(wanted, rel=1e-3) and wanted > 1e-5


def test_the_gradient_is_clipped_to_the_configured_norm() -> None:
    """The optimiser's first moment is a tenth of the gradient that it was given."""
    norms = {}
    for clip in (1e-3, 1e3):
        one = learner(clip=clip)
        before = one.update(rows())["grad_norm"]
        moments = [value for name, value in one.optimiser.moments() if name.endswith("/exp_avg")]
        norms[clip] = (before, 10 * math.sqrt(sum(float((m**2).sum()) for m in moments)))
    assert norms[1e-3] == (norms[1e3][0], pytest.approx(1e-3, rel=1e-2))
    assert norms[1e3][1] == pytest.approx(norms[1e3][0], rel=1e-4)


def test_adapters_learn_alone() -> None:
    one = learner(lora=2)
    before = snapshot(one)
    one.update(rows())
    moved = changed(before, one)
    assert moved and all("lora_" in name for name in moved)


@pytest.mark.parametrize("stage", ["sft", "policy"])
@pytest.mark.parametrize("lora", [None, 2])
def test_a_saved_learner_continues_bit_for_bit(tmp_path: Path, stage: str, lora: int | None) -> None:
    def steps(of: TransformersLearner, first: int, last: int) -> None:
        for i in range(first, last):
            of.imitate(rows(i)) if stage == "sft" or i < 2 else of.update(rows(i))

    straight, first, second = learner(lora=lora), learner(lora=lora), learner(lora=lora)
    steps(straight, 0, 6)
    steps(first, 0, 4)
    first.save(tmp_path)
    second.load(tmp_path)
    steps(second, 4, 6)
    a, b = snapshot(straight), snapshot(second)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert second.model.version == straight.model.version == 6


def test_saved_weights_load_into_a_model_that_only_samples(tmp_path: Path) -> None:
    one, other = learner(), tiny(0)
    one.update(rows())
    one.save(tmp_path)
    load_weights(other.net, tmp_path)
    assert all(torch.equal(value, other.net.state_dict()[name]) for name, value in snapshot(one).items())


def test_a_checkpoint_of_another_shape_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    learner(layers=1).save(tmp_path)
    one = learner()
    before = snapshot(one)
    with pytest.raises(ModelError, match="other weights than this config trains"):
        one.load(tmp_path)
    assert not changed(before, one)


def test_a_torn_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    learner().save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        learner().load(tmp_path)


def test_the_rate_rises_then_falls_to_its_share() -> None:
    config = SftConfig(examples=100, batch=10, lr=1.0, warmup=0.2, decay=0.1)
    rates = [rate(config, step) for step in range(12)]
    assert rates[:2] == [0.5, 1.0]
    assert all(a > b for a, b in pairwise(rates[1:10]))
    assert rates[9] == rates[11] == pytest.approx(0.1)


def test_log_probabilities_of_a_frozen_head_have_the_gradient_of_a_trainable_one() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 300, bias=False).double()
    targets = torch.randint(0, 300, (600,))
    outcomes = []
    for frozen in (True, False):
        head.weight.requires_grad_(not frozen)
        states = torch.randn(600, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        values, entropy = logprobs(head, states, targets, 0.7)
        (values * torch.arange(600)).sum().backward()
        outcomes.append((values.detach(), entropy, states.grad))
    for a, b in zip(*outcomes, strict=True):
        assert torch.allclose(a, b, atol=1e-10)
