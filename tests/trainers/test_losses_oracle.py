"""Our losses against TRL's own code on the inputs of the golden table, where TRL is installed (`make test-extras`)."""

from __future__ import annotations

import importlib
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from closed_form import ADVANTAGE, BIG, DAPO, DR, GRPO, HIGH, LOW, MASK, NOW, OLD, REFERENCE, SAMPLER, SMALL, evaluate

from trainers.config import Cispo, Clip, Correction, Gspo, Kl, LossConfig, Sapo

pytestmark = pytest.mark.extra("trl")
DEFAULTS: dict[str, Any] = {
    "aux_loss_enabled": False,
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "importance_sampling_level": "token",
    "beta": 0.0,
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "use_vllm": False,
    "vllm_importance_sampling_correction": True,
    "max_completion_length": 6,
    "current_gradient_accumulation_steps": 1,
    "_entropy_bonus_enabled": False,
}
ARGUMENTS: dict[str, Any] = {
    "delta": None,
    "use_bias_correction_kl": False,
    "sapo_temperature_pos": 1.0,
    "sapo_temperature_neg": 1.05,
    "steps_per_generation": 1,
}


def theirs(loss_type: str, changed: dict[str, torch.Tensor], ratio: torch.Tensor | None, **options: Any):
    """Loss and gradient norm of ``GRPOTrainer._compute_loss`` itself, given the log-probabilities."""
    now = NOW.clone().requires_grad_(True)
    given = {"delta": options.pop("delta", None)}
    kind: Any = importlib.import_module("trl").GRPOTrainer
    trainer = object.__new__(kind)
    for name, value in {**DEFAULTS, "loss_type": loss_type, **options}.items():
        setattr(trainer, name, value)
    trainer.use_vllm = ratio is not None
    trainer.args = SimpleNamespace(**{**ARGUMENTS, **given})
    trainer.model = SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    trainer.accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    trainer._get_per_token_logps_and_entropies = lambda *args, **more: (now, torch.zeros_like(NOW), None)
    mask = MASK.long()
    inputs = {
        "prompt_ids": mask[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": ADVANTAGE[:, 0],
        "old_per_token_logps": changed.get("old", OLD),
        "sampling_per_token_logps": changed.get("sampler", SAMPLER),
        "ref_per_token_logps": REFERENCE,
        "importance_sampling_ratio": ratio,
        "num_items_in_batch": MASK.sum(),
    }
    loss = trainer._compute_loss(None, inputs)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.norm().item()


WEIGHT = (OLD - SAMPLER).exp()
ROW_WEIGHT = ((OLD - SAMPLER) * MASK).sum(1, keepdim=True).exp()
CASES: dict[str, tuple[LossConfig, str, dict[str, Any]]] = {
    "grpo": (LossConfig(policy=LOW, aggregation=GRPO), "grpo", {}),
    "bnpo": (LossConfig(policy=LOW, aggregation=DAPO), "bnpo", {}),
    "dapo, clip higher": (LossConfig(policy=HIGH, aggregation=DAPO), "dapo", {"epsilon_high": 0.28}),
    "dr_grpo": (LossConfig(policy=LOW, aggregation=DR, length=6), "dr_grpo", {}),
    "gspo": (
        LossConfig(policy=Gspo(), aggregation=GRPO),
        "grpo",
        {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    ),
    "cispo": (LossConfig(policy=Cispo(cap=1.28), aggregation=DAPO), "cispo", {"epsilon_high": 1.28}),
    "sapo": (LossConfig(policy=Sapo(), aggregation=GRPO), "sapo", {}),
    "delta": (
        LossConfig(policy=Clip(high=0.28, dual=3), aggregation=DAPO),
        "bnpo",
        {"epsilon_high": 0.28, "delta": 3.0, "old": BIG},
    ),
    "opsm": (
        LossConfig(policy=HIGH, aggregation=DAPO, opsm=0.05),
        "bnpo",
        {"epsilon_high": 0.28, "off_policy_mask_threshold": 0.05, "old": SMALL, "sampler": SMALL},
    ),
    "k3": (
        LossConfig(policy=HIGH, aggregation=DAPO, kl=Kl(estimator="k3", weight=0.1)),
        "bnpo",
        {"epsilon_high": 0.28, "beta": 0.1},
    ),
    "token truncate": (
        LossConfig(policy=HIGH, aggregation=DAPO, correction=Correction(cap=1.1)),
        "bnpo",
        {"epsilon_high": 0.28, "ratio": WEIGHT.clamp(max=1.1)},
    ),
    "sequence mask": (
        LossConfig(policy=HIGH, aggregation=DAPO, correction=Correction(level="sequence", mode="mask", cap=1.1)),
        "bnpo",
        {"epsilon_high": 0.28, "ratio": ROW_WEIGHT.masked_fill(ROW_WEIGHT > 1.1, 0.0)},
    ),
}


@pytest.mark.parametrize(("config", "loss_type", "options"), CASES.values(), ids=CASES)
def test_oracle_trl_gives_the_same_loss_and_gradient_norm(
    config: LossConfig, loss_type: str, options: dict[str, Any]
) -> None:
    changed = {name: options[name] for name in ("old", "sampler") if name in options}
    more = {name: value for name, value in options.items() if name not in (*changed, "ratio")}
    ours = evaluate(config, **changed)
    assert ours == pytest.approx(theirs(loss_type, changed, options.get("ratio"), **more), abs=1e-5, rel=0)
