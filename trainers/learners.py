"""The learner of this process, alone or as one rank of several."""

from __future__ import annotations

import os

from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.errors import TrainingError
from trainers.learner import TransformersLearner
from trainers.model import Model
from trainers.ranks import join


def check(scale: ScaleConfig) -> None:
    """Refuse what cannot start, before anything is loaded. Raises :class:`TrainingError`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != scale.gpus:
        raise TrainingError(
            f"scale.gpus = {scale.gpus} but the number of processes is {size}: start it with "
            f"'torchrun --nproc-per-node {scale.gpus} -m dojo train CONFIG', or set scale.gpus to {size}"
        )
    if scale.parallel == "fsdp2":
        raise TrainingError(
            "scale.parallel = 'fsdp2' can be planned but not run yet: set it to 'ddp' and learn adapters (optim.lora)"
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
    return TransformersLearner(loaded, optim, loss, sft, temperature, threads, ranks)
