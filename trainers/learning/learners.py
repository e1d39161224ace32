"""The learner of this process, alone or as one rank of several."""

from __future__ import annotations

import os

from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.errors import TrainingError
from trainers.learning import zero
from trainers.learning.learner import TransformersLearner
from trainers.learning.ranks import RankedLearner, join
from trainers.model.load import Model
from trainers.protocol import Learner


def check(scale: ScaleConfig) -> None:
    """Refuse what cannot start, before anything is loaded. Raises :class:`TrainingError`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != scale.gpus:
        raise TrainingError(
            f"scale.gpus = {scale.gpus} but the number of processes is {size}: start it with "
            f"'torchrun --nproc-per-node {scale.gpus} -m dojo train CONFIG', or set scale.gpus to {size}"
        )
    for told, kind in (("DEEPSPEED", "deepspeed"), ("FSDP", "fsdp2")):
        if os.environ.get(f"ACCELERATE_USE_{told}") == "true" and scale.parallel != kind:
            raise TrainingError(
                f"accelerate was told to use {told} and scale.parallel is '{scale.parallel}': set it to '{kind}', "
                "or start it without"
            )
    if scale.parallel != "ddp" and scale.gpus == 1:
        raise TrainingError(
            f"scale.parallel = '{scale.parallel}' shares the learner out over several processes and scale.gpus is 1: "
            "set scale.gpus to their number, or scale.parallel to 'ddp'"
        )
    if scale.parallel == "deepspeed":
        zero.check(scale.zero)


def learner(
    loaded: Model,
    model: ModelConfig,
    optim: OptimConfig,
    loss: LossConfig,
    sft: SftConfig,
    *,
    temperature: float,
    scale: ScaleConfig,
) -> TransformersLearner:
    """Joins the other ranks first, if there are any."""
    check(scale)
    ranks = join(model.device)
    threads = model.learner_threads or model.threads
    shared = model.device if scale.parallel == "fsdp2" else None
    stage = zero.check(scale.zero) if scale.parallel == "deepspeed" else None
    return TransformersLearner(loaded, optim, loss, sft, temperature, threads, ranks, shared, stage)


def driven(made: TransformersLearner) -> Learner:
    """What the loop of rank 0 calls: the learner itself, or all ranks through it; the model's state comes from all."""
    if made.ranks.size == 1:
        return made
    ranked = RankedLearner(made, made.model.lock)
    if made.shared:
        made.model.gather = ranked.state
    return ranked
