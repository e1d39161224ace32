"""One loss config of each family, and rows that each can learn from: what the invariance tests go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainers.config import Cispo, Clip, Correction, Distill, Dppo, Gspo, Kl, LossConfig, ReinforcePlusPlus, Sapo
from trainers.learning.learner import TransformersLearner
from trainers.protocol import Row

LOSSES = {
    "clip-norm": LossConfig(),
    "clip-token-mean": LossConfig(aggregation="token-mean", policy=Clip(high=0.28, dual=3)),
    "clip-seq-mean": LossConfig(aggregation="seq-mean-token-mean"),
    "gspo": LossConfig(policy=Gspo(low=0.3, high=0.4), aggregation="seq-mean-token-mean"),
    "cispo": LossConfig(policy=Cispo(), aggregation="seq-mean-token-sum"),
    "sapo": LossConfig(policy=Sapo()),
    "dppo": LossConfig(policy=Dppo(), aggregation="token-sum"),
    "corrected": LossConfig(correction=Correction(level="sequence"), opsm=0.05),
    "token-mask": LossConfig(correction=Correction(mode="mask", cap=1.2)),
    "penalised": LossConfig(kl=Kl(estimator="k3", weight=0.1)),
    "prompt-mean": LossConfig(aggregation="prompt-mean"),
    "reinforce++": LossConfig(estimator=ReinforcePlusPlus(gamma=0.9), aggregation="token-mean"),
    "distilled": LossConfig(distill=Distill()),
}


def fit(rows: Sequence[Row], loss: LossConfig) -> list[Row]:
    """The rows with one advantage a rollout for an estimator, and with lessons on some of them for a distillation."""
    made = list(rows)
    if loss.estimator:
        made = [replace(row, advantages=tuple(float(m) * (int(row.rollout[-1]) - 1) for m in row.mask)) for row in made]
    if loss.distill:
        made = [replace(row, lesson=f"not {row.rollout}" if int(row.rollout[-1]) % 2 else "") for row in made]
    return made


def apart(learner: TransformersLearner) -> TransformersLearner:
    """The learner with a reference that is not where it stands: at the reference a penalty has no gradient."""
    learner.enter("policy")
    learner.reference = {name: value * 1.01 for name, value in learner.reference.items()}
    return learner
