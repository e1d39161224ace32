"""The loaded model of a run on this machine: an engine and a learner on the same weights."""

from __future__ import annotations

from trainers.components import Machine
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig


def local_machine(
    model: ModelConfig,
    optim: OptimConfig,
    loss: LossConfig,
    sft: SftConfig,
    *,
    seed: int = 0,
    temperature: float = 0.8,
) -> Machine:
    """Load the model and put both on it. ``temperature`` is the training sampler's (``train.temperature``).

    Raises :class:`trainers.tokenizer.ModelError` with one sentence.
    """
    from trainers.engines.transformers import TransformersEngine
    from trainers.learner import TransformersLearner
    from trainers.model import load

    loaded = load(model, seed)
    engine = TransformersEngine(loaded, model.threads)
    return Machine(
        engine,
        TransformersLearner(loaded, optim, loss, sft, temperature, model.learner_threads or model.threads),
        engine.wave,
    )
