"""``dojo train --plan``, and what a process does that is not the first of its run."""

from __future__ import annotations

import os
from pathlib import Path

from dojo.config import Config
from trainers.config import ScaleConfig
from trainers.model.shapes import shape
from trainers.plan import Load, estimate, lines


def plan(config: Config) -> tuple[list[str], bool]:
    """The lines of the plan, and whether the run fits. Nothing is loaded."""
    found = shape(config.model.name)
    scale = config.scale if config.model.device == "cuda" else cpu(config.scale, config.model.threads)
    made = estimate(found, config.model, config.optim, scale, load(config), config.loss)
    text = lines(Path(config.model.name).name, found, scale, made)
    if config.model.device == "cpu":
        text.insert(1, "on a CPU: 0.1 TFLOPS a thread and 0.02 TB/s are assumed, and the memory is this machine's")
    return text, made.fits


def load(config: Config) -> Load:
    """What one step plays, every episode filled to its limits."""
    train, agent = config.train, config.agent
    return Load(
        episodes=train.prompts * (train.group + (train.spare or 0)),
        tokens=agent.max_context,
        sampled=min(agent.max_turns * agent.max_tokens, agent.max_context),
        live=min(train.waves * train.wave, train.prompts * train.group * (train.bound + 1)),
    )


def cpu(scale: ScaleConfig, threads: int) -> ScaleConfig:
    """This machine as if it were a GPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return scale.model_copy(update={"memory_gb": memory, "tflops": 0.1 * threads, "bandwidth_tb": 0.02, "mfu": 1.0})


def serve(config: Config) -> None:
    """Rank 1 and above: load the weights and make the calls of rank 0 until it ends."""
    from trainers.learning.learners import learner
    from trainers.learning.ranks import serve as serve_calls
    from trainers.model.load import load as load_model

    made = learner(
        load_model(config.model, config.seed, shared=config.scale.parallel == "fsdp2"),
        config.model,
        config.optim,
        config.loss,
        config.sft,
        temperature=config.train.temperature,
        scale=config.scale,
    )
    serve_calls(made)
