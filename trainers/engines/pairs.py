"""Engines and what they cannot do together, refused before anything is loaded (invariant 11)."""

from __future__ import annotations

from collections.abc import Iterator

from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig
from trainers.engine_config import EngineConfig, OpenAIConfig, RecordedConfig, TransformersConfig, VllmConfig
from trainers.engines import environment
from trainers.errors import TrainingError
from trainers.loop_config import TrainConfig


def check_training(
    engine: EngineConfig,
    model: ModelConfig,
    optim: OptimConfig,
    loss: LossConfig,
    train: TrainConfig,
    scale: ScaleConfig | None = None,
) -> None:
    """Raise :class:`TrainingError` for what an engine cannot train with."""
    if scale is not None and scale.parallel == "fsdp2" and isinstance(engine, TransformersConfig):
        raise TrainingError(
            "scale.parallel = 'fsdp2' shares the weights out over the ranks and engine.kind = 'transformers' samples "
            "from whole ones: set engine.kind to 'vllm', or scale.parallel to 'ddp'"
        )
    if isinstance(engine, (OpenAIConfig, RecordedConfig)):
        raise TrainingError(
            f"engine.kind = '{engine.kind}' cannot train: it gives no log-probabilities of weights that we hold; "
            "use it with 'dojo eval' or 'dojo rollout', or set engine.kind to 'transformers' or 'vllm'"
        )
    if isinstance(engine, VllmConfig):
        check_sampling(engine, model)
        for reason in _vllm(engine, optim, loss, train):
            raise TrainingError(reason)


def check_sampling(engine: EngineConfig, model: ModelConfig) -> None:
    """Raise :class:`TrainingError` for what an engine cannot even sample with."""
    if isinstance(engine, TransformersConfig) or not isinstance(engine, VllmConfig) or engine.url is not None:
        return
    if model.name == "tiny":
        raise TrainingError(
            "engine.kind = 'vllm' starts a server on a model folder and model.name = 'tiny' has none; name a folder, "
            "or a server with engine.url"
        )
    if engine.python is None and (reason := environment.missing()):
        raise TrainingError(f"engine.kind = 'vllm' without engine.url starts a server, but {reason}")
    if engine.python is not None and not engine.python.with_name("vllm").is_file():
        raise TrainingError(
            f"engine.python = {engine.python} belongs to no environment with vLLM (there is no "
            f"{engine.python.with_name('vllm')}); install it there with 'pip install vllm=={environment.VERSION}'"
        )


def _vllm(engine: VllmConfig, optim: OptimConfig, loss: LossConfig, train: TrainConfig) -> Iterator[str]:
    if engine.truncates:
        what = "importance correction (loss.correction)" if loss.correction else "the trainer's ratios"
        yield (
            f"engine.top_p and engine.top_k leave tokens out of the sampler's distribution, but {what} compare with "
            "the whole of it; set engine.top_p to 1 and engine.top_k to 0 to train"
        )
    if engine.sync == "lora" and optim.lora is None:
        yield "engine.sync = 'lora' sends adapters and optim.lora is unset; set it to a rank, or engine.sync to 'file'"
    if engine.backend == "nccl" and optim.lora is not None:
        yield "engine.backend = 'nccl' sends whole weights and optim.lora trains adapters; set engine.sync to 'lora'"
    if engine.share and train.mode != "sync":
        yield (
            f"engine.share lets the server sleep during an update, and train.mode = '{train.mode}' samples then; "
            "set train.mode to 'sync', or give the server a GPU of its own"
        )
