"""The plan against what is known: parameter counts, memory that was measured, runs that were published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainers.config import Kl, LossConfig, ModelConfig, OptimConfig, ScaleConfig
from trainers.model.load import tiny
from trainers.model.shapes import KNOWN, Shape, read, shape
from trainers.model.tokenizer import ModelError
from trainers.model.trainable import trainable
from trainers.plan import Estimate, Load, estimate, learning, lines

BF16 = ModelConfig(name="x", device="cuda", dtype="bfloat16")
FULL = OptimConfig(layers=None, tokens=8192, checkpointing=True)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("qwen2.5-7b", 7.62), ("llama-3.1-8b", 8.03), ("qwen3-8b", 8.19), ("qwen3-32b", 32.8), ("qwen3-30b-a3b", 30.5)],
)
def test_parameter_counts_are_those_of_the_model_cards(name: str, billions: float) -> None:
    assert KNOWN[name].parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_mixture_uses_the_share_of_its_parameters_that_its_name_says() -> None:
    assert KNOWN["qwen3-30b-a3b"].used / 1e9 == pytest.approx(3.0, rel=0.05)
    assert KNOWN["qwen3-32b"].used / KNOWN["qwen3-32b"].parameters > 0.95


@pytest.mark.parametrize(
    "optim",
    [OptimConfig(layers=2), OptimConfig(layers=None), OptimConfig(layers=3, lora=4)],
    ids=["last", "all", "lora"],
)
def test_what_learns_is_counted_as_the_learner_counts_it(optim: OptimConfig) -> None:
    net = tiny(0).net
    real = read(net.config.to_dict(), "the tiny model")
    assert real.parameters == sum(p.numel() for p in net.parameters())
    assert learning(real, optim) == sum(p.numel() for p in trainable(net, optim).values())


def plan(shape: Shape, gpus: int, load: Load, **scale: object) -> Estimate:
    given = ScaleConfig.model_validate({"gpus": gpus, "parallel": "fsdp2", **scale})
    return estimate(shape, BF16, FULL, given, load)


PUBLISHED = [
    # GRPO on OpenMathInstruct-2, DGX-H100, on policy: table of NeMo RL 0.4 (docs, performance summary).
    pytest.param("llama-3.1-8b", 16, Load(2048, 1060, 1000, 2048), 1, 97.7, 4096, id="8B"),
    pytest.param("qwen3-30b-a3b", 32, Load(2048, 3154, 3000, 2048), 4, 225.0, 4096, id="30B-MoE"),
    pytest.param("qwen3-32b", 32, Load(2048, 3206, 3050, 2048), 4, 393.0, 4096, id="32B"),
]


@pytest.mark.parametrize(("name", "gpus", "load", "tensor", "seconds", "longest"), PUBLISHED)
def test_published_runs_fit_and_their_step_takes_about_what_was_reported(
    name: str, gpus: int, load: Load, tensor: int, seconds: float, longest: int
) -> None:
    """Generation lasts as long as the longest answer, which those runs bound."""
    found = plan(KNOWN[name], gpus, load, tensor=tensor)
    step = found.step + found.seconds["generation"] * (longest / load.tokens - 1)
    assert found.fits
    assert 0.4 * seconds < step < 1.1 * seconds


def test_deepswe_fits_its_64_gpus_and_the_computing_share_of_its_six_days() -> None:
    """Qwen3-32B, 64 H100, 200 steps in six days (its release note); 64 prompts x 8, contexts of 32k."""
    found = plan(KNOWN["qwen3-32b"], 64, Load(512, 32_768, 12_000, 512), tensor=8)
    published = 6 * 86_400 / 200
    assert found.fits
    assert 0.15 * published < found.step < 0.7 * published, "the rest is commands and tests, which a plan cannot know"


def test_what_cannot_fit_is_refused_with_the_way_out() -> None:
    load = Load(64, 8192, 2048, 64)
    one = plan(KNOWN["qwen2.5-7b"], 1, load, parallel="ddp")
    assert not one.fits and one.peak > 120e9
    assert "optim.lora" in lines("qwen2.5-7b", KNOWN["qwen2.5-7b"], ScaleConfig(), one)[-1]
    eight = plan(KNOWN["qwen3-32b"], 8, load, parallel="ddp")
    assert "fsdp2" in lines("x", KNOWN["qwen3-32b"], ScaleConfig(gpus=8), eight)[-1]


def test_checkpointing_and_sharding_save_what_the_formula_says() -> None:
    load, qwen = Load(64, 8192, 2048, 64), KNOWN["qwen3-8b"]
    whole, shared = (plan(qwen, gpus, load, parallel=kind) for gpus, kind in ((1, "ddp"), (8, "fsdp2")))
    assert shared.memory["optimiser"] * 8 == whole.memory["optimiser"] == 12 * qwen.parameters
    without = estimate(qwen, BF16, OptimConfig(layers=None, tokens=8192), ScaleConfig(), load)
    assert without.memory["activations"] > 10 * whole.memory["activations"]
    assert whole.seconds["update"] == pytest.approx(8 / 6 * without.seconds["update"])


def test_deepspeed_shares_out_the_optimiser_and_in_its_second_stage_the_gradients() -> None:
    load, qwen = Load(64, 8192, 2048, 64), KNOWN["qwen3-8b"]
    first, second = (plan(qwen, 8, load, parallel="deepspeed", zero=stage).memory for stage in (1, 2))
    assert first["optimiser"] == second["optimiser"] == 12 * qwen.parameters / 8
    assert first["weights"] == second["weights"] == 2 * qwen.parameters
    assert first["gradients"] - second["gradients"] == pytest.approx(4 * qwen.parameters * 7 / 8)


def test_a_reference_that_is_not_off_loaded_and_an_average_take_a_copy_of_what_learns() -> None:
    some, load = OptimConfig(layers=8, ema=0.99), Load(8, 1024, 512, 8)
    far, near = (LossConfig(kl=Kl(offload=offload)) for offload in (True, None))
    kept = estimate(KNOWN["qwen2.5-7b"], BF16, some, ScaleConfig(), load, near)
    assert kept.memory["reference"] == 2 * kept.learning and kept.memory["average"] == 4 * kept.learning
    assert estimate(KNOWN["qwen2.5-7b"], BF16, some, ScaleConfig(), load, far).memory["reference"] == 0


def test_a_shape_is_read_from_a_folder_and_an_unknown_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tiny(0).net.config.to_dict()))
    assert shape(str(tmp_path)).parameters == KNOWN["tiny"].parameters
    assert shape("/models/Qwen3-32B") is KNOWN["qwen3-32b"]
    with pytest.raises(ModelError, match="nothing is known of the model /nowhere/x"):
        shape("/nowhere/x")
    with pytest.raises(ModelError, match="Llama or Qwen"):
        read({"n_embd": 3}, "config.json")
