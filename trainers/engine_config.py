"""Settings of what samples. Torch-free.

``transformers`` samples in this process with the weights that learn. The others stand behind a protocol of their own:
``vllm`` a server that weights are sent to, ``openai`` any endpoint, for evaluation only, ``recorded`` a file of
samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TransformersConfig(BaseModel):
    """In this process, on the weights that learn (:mod:`trainers.engines.transformers`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transformers"] = "transformers"


class Truncated(BaseModel):
    """Sampling from a part of the vocabulary. For evaluation: the trainer's log-probabilities are over all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Only the most likely tokens that together have this probability; 1: all."""
    top_k: int = Field(default=0, ge=0)
    """Only so many most likely tokens; 0: all."""

    @property
    def truncates(self) -> bool:
        """Whether some token can never be drawn."""
        return self.top_p < 1 or self.top_k > 0


class VllmConfig(Truncated):
    """A vLLM server, token ids in and out (:mod:`trainers.engines.vllm`)."""

    kind: Literal["vllm"] = "vllm"
    url: str | None = Field(default=None, pattern=r"^https?://[^/]+$")
    """``http://host:port`` of a server that runs; ``None``: one is started for the run and stopped at its end."""
    python: Path | None = None
    """Interpreter of the environment that vLLM is installed in, when a server is started; ``None``: the one that
    ``make test-vllm`` makes."""
    flags: tuple[str, ...] = ()
    """Further flags of a server that is started, for example ``["--tensor-parallel-size", "2"]``."""
    sync: Literal["file", "transfer", "lora"] = "file"
    """How weights get there. ``file``: written to ``folder``, which the server reads. ``transfer``: the server's weight
    transfer, by ``file`` where the transfer is not there. ``lora``: only adapters, which needs ``optim.lora``."""
    backend: Literal["file", "nccl"] = "file"
    """What carries a ``transfer``: ``nccl`` needs a GPU each for trainer and server."""
    folder: Path | None = None
    """Where weights are written; the server must see it under the same path. ``None``: a temporary folder, which only a
    server on this machine can see."""
    record: Path | None = None
    """Append every sample to this file; ``recorded`` plays it back."""
    pause: Literal["keep", "wait"] = "keep"
    """Requests in flight at an update: ``keep`` freezes them and goes on with the new weights, ``wait`` lets them
    finish first."""
    share: bool = False
    """Trainer and server share one GPU: the server sleeps while the weights learn."""
    restarts: int = Field(default=3, ge=0)
    """Times that a server which the run started, and which died, is started anew; then the run stops, resumable."""
    start_s: float = Field(default=600.0, gt=0)
    """Seconds until a server that is started must answer."""
    request_s: float = Field(default=600.0, gt=0)
    """Seconds of one sample."""
    sync_s: float = Field(default=300.0, gt=0)
    """Seconds of each call of an update."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.url is not None and (self.python is not None or self.flags):
            raise ValueError(
                "engine.python and engine.flags belong to a server that is started, engine.url names one that runs: "
                "unset the one or the other"
            )
        if self.backend == "nccl" and self.sync != "transfer":
            raise ValueError("engine.backend = 'nccl' carries weight transfers: set engine.sync to 'transfer'")
        if self.share and self.pause != "wait":
            raise ValueError(
                "engine.share puts the server to sleep for an update, which drops the keys of requests in flight: "
                "set engine.pause to 'wait'"
            )
        return self


class OpenAIConfig(Truncated):
    """Any endpoint with OpenAI's chat completions, for evaluation (:mod:`trainers.engines.openai`)."""

    kind: Literal["openai"] = "openai"
    url: str = Field(pattern=r"^https?://.+[^/]$")
    """What ``/chat/completions`` is appended to, for example ``https://host/v1``."""
    model: str
    """Name of the model at the endpoint."""
    key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; not set: none is sent."""
    request_s: float = Field(default=600.0, gt=0)
    """Seconds of one sample."""
    record: Path | None = None
    """Append every answer to this file; ``recorded`` plays it back."""
    at_once: int = Field(default=16, ge=1)
    """Requests in flight."""


class RecordedConfig(BaseModel):
    """Samples of a file, played back (:mod:`trainers.engines.recorded`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["recorded"] = "recorded"
    path: Path
    """A file of trajectories, or a run folder: each request gets what was sampled there for the same key, turn and
    context."""


EngineConfig = Annotated[TransformersConfig | VllmConfig | OpenAIConfig | RecordedConfig, Field(discriminator="kind")]
