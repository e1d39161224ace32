"""The loaded model of a run on this machine: an engine and a learner on the same weights."""

from __future__ import annotations

from trainers.components import Machine
from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig


def local_machine(
    model: ModelConfig,
    optim: OptimConfig,
    loss: LossConfig,
    sft: SftConfig,
    *,
    seed: int = 0,
    temperature: float = 0.8,
    scale: ScaleConfig | None = None,
) -> Machine:
    """Load the model and put both on it. ``temperature`` is the training sampler's (``train.temperature``).

    Raises :class:`trainers.model.tokenizer.ModelError` or :class:`trainers.errors.TrainingError` with one sentence.
    """
    from trainers.engines.transformers import TransformersEngine
    from trainers.learning.learners import driven, learner
    from trainers.model.load import load

    loaded = load(model, seed)
    engine = TransformersEngine(loaded, model.threads)
    made = learner(loaded, model, optim, loss, sft, temperature=temperature, scale=scale or ScaleConfig())
    return Machine(engine, driven(made), engine.wave, made.averaged)
