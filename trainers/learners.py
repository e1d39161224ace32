"""The learner of this process, alone or as one rank of several."""

from __future__ import annotations

import os

from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.errors import TrainingError
from trainers.learner import TransformersLearner
from trainers.model import Model
from trainers.protocol import Learner
from trainers.ranks import RankedLearner, join


def check(scale: ScaleConfig) -> None:
    """Refuse what cannot start, before anything is loaded. Raises :class:`TrainingError`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != scale.gpus:
        raise TrainingError(
            f"scale.gpus = {scale.gpus} but the number of processes is {size}: start it with "
            f"'torchrun --nproc-per-node {scale.gpus} -m dojo train CONFIG', or set scale.gpus to {size}"
        )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise TrainingError(
            "accelerate was told to use DeepSpeed, which this trainer does not: start it without, and set "
            "scale.parallel to 'fsdp2' to share the learner's state out"
        )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and scale.parallel != "fsdp2":
        raise TrainingError(
            f"accelerate was told to use FSDP and scale.parallel is '{scale.parallel}': set it to 'fsdp2', "
            "or start it without"
        )
    if scale.parallel == "fsdp2" and scale.gpus == 1:
        raise TrainingError(
            "scale.parallel = 'fsdp2' shares the learner out over several processes and scale.gpus is 1: "
            "set scale.gpus to their number, or scale.parallel to 'ddp'"
        )


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
    return TransformersLearner(loaded, optim, loss, sft, temperature, threads, ranks, shared)


def driven(made: TransformersLearner) -> Learner:
    """What the loop of rank 0 calls: the learner itself, or all ranks through it; the model's state comes from all."""
    if made.ranks.size == 1:
        return made
    ranked = RankedLearner(made, made.model.lock)
    if made.shared:
        made.model.gather = ranked.state
    return ranked
