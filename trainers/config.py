"""Settings of the model, the warm start, the loss and the optimiser. Torch-free.

The settings of the loop and of evaluations are in :mod:`trainers.loop_config`. A pair of settings that cannot work
together is refused when the config is read, with the way out.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

EMBEDDED = "smollm2-135m-instruct"
"""Name of the model that is fetched with ``make model``: SmolLM2-135M-Instruct, Apache-2.0."""


class ModelConfig(BaseModel):
    """Which weights learn and sample, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = EMBEDDED
    """The embedded model, the path of a folder in the format of transformers, or ``tiny`` (random weights on bytes)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both live."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """On a CPU without bfloat16 units float32 is faster."""
    threads: int = Field(default=1, ge=1)
    """Threads of torch on the CPU while sampling. They wait asleep, so as many as there are cores does no harm."""
    learner_threads: int | None = Field(default=None, ge=1)
    """Threads while learning, when nothing else of a synchronous run computes; ``None``: as many as ``threads``."""


class SftConfig(BaseModel):
    """The supervised warm start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: int = Field(default=480, ge=0)
    """Scripted episodes to learn from, in all; 0 skips the warm start."""
    minutes: float | None = Field(default=10.0, gt=0)
    """Wall-clock bound; ``None``: all examples."""
    batch: int = Field(default=8, ge=1)
    """Episodes of one optimiser step."""
    lr: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the examples over which the rate rises from 0."""
    decay: float = Field(default=0.1, ge=0, le=1)
    """The rate falls linearly from its peak to this share of it at the last example."""
    window: int = Field(default=64, ge=1)
    """Episodes that are sorted by length before they are cut into batches: less padding, the order stays random
    outside."""


class Clip(BaseModel):
    """PPO's clipped surrogate (:mod:`trainers.losses.clip`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["clip"] = "clip"
    low: float = Field(default=0.2, ge=0)
    """The ratio is clipped at ``1 - low``."""
    high: float = Field(default=0.2, ge=0)
    """... and at ``1 + high``; 0.28 is DAPO's clip-higher."""
    dual: float | None = Field(default=None, gt=1)
    """Dual clip: for negative advantages the loss is at most ``-dual * A``."""


class Gspo(BaseModel):
    """Group sequence policy optimisation: one ratio a sequence (:mod:`trainers.losses.gspo`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["gspo"] = "gspo"
    low: float = Field(default=3e-4, ge=0)
    high: float = Field(default=4e-4, ge=0)


class Cispo(BaseModel):
    """Clipped importance weights that keep every token's gradient (:mod:`trainers.losses.cispo`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cispo"] = "cispo"
    floor: float = Field(default=0.0, ge=0)
    """Lower bound of the weight; 0: none."""
    cap: float = Field(default=5.0, gt=0)
    """Upper bound of the weight."""


class Sapo(BaseModel):
    """A soft gate instead of a clip (:mod:`trainers.losses.sapo`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sapo"] = "sapo"
    positive: float = Field(default=1.0, gt=0)
    """Temperature of the gate where the advantage is positive."""
    negative: float = Field(default=1.05, gt=0)
    """... and where it is negative."""


class Dppo(BaseModel):
    """Binary total-variation trust region (:mod:`trainers.losses.dppo`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dppo"] = "dppo"
    bound: float = Field(default=0.2, gt=0)
    """A token whose probability moved further than this in the advantage's direction is dropped."""
    tau: float = Field(default=1e-3, ge=0)
    """Weight of the squared log-ratio."""


class Correction(BaseModel):
    """Importance weight between the sampler's and the trainer's log-probabilities
    (:mod:`trainers.losses.correction`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = "truncate"
    cap: float = Field(default=2.0, gt=0)
    """Largest weight; above it ``truncate`` caps and ``mask`` drops."""


class Kl(BaseModel):
    """A penalty towards the reference model (:mod:`trainers.losses.kl`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimator: Literal["k1", "k2", "k3"] = "k2"
    """As a *loss*, k1 has no gradient on average, k2 has that of KL(policy || reference), k3 that of the reverse."""
    weight: float = Field(default=1e-3, gt=0)
    offload: bool | None = None
    """Keep the reference's weights in the CPU's memory and copy them to the device for each micro-batch. Worth it where
    every weight learns: adapters are small."""


class ReinforcePlusPlus(BaseModel):
    """Discounted returns, whitened over the step (:mod:`trainers.estimators.reinforce`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["reinforce++"] = "reinforce++"
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount by sampled token."""


class Distill(BaseModel):
    """Learning from feedback by the policy's own lights (:mod:`trainers.rollout.lessons`,
    :mod:`trainers.learning.teacher`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, gt=0)
    """Of the teacher's advantage, which is added to the reward's."""
    bound: float = Field(default=2.0, gt=0)
    """Largest magnitude of a token's log-ratio between teacher and policy."""
    tokens: int = Field(default=1024, ge=1)
    """Longest feedback; what is behind is cut."""


PolicyLoss = Annotated[Clip | Gspo | Cispo | Sapo | Dppo, Field(discriminator="kind")]
Aggregation = Literal[
    "seq-mean-token-sum-norm", "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "token-sum", "prompt-mean"
]


class LossConfig(BaseModel):
    """What one update minimises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: PolicyLoss = Clip()
    aggregation: Aggregation = "seq-mean-token-sum-norm"
    """How token losses become one number (:mod:`trainers.losses.aggregate`)."""
    length: int = Field(default=256, ge=1)
    """The constant of ``seq-mean-token-sum-norm``: a configured length, never the longest row of a batch
    (invariant 8)."""
    correction: Correction | None = None
    """``None``: the sampler's log-probabilities are the behaviour's, as they are when both share weights and one
    step is made."""
    opsm: float | None = Field(default=None, gt=0)
    """Drop a sequence with negative advantage whose mean ``sampler - now`` is above this (off-policy sequence
    masking)."""
    kl: Kl | None = None
    """Penalty towards the model before training; it costs a second forward pass."""
    estimator: ReinforcePlusPlus | None = None
    """Makes token advantages of a rollout's one advantage; ``None``: every token of a turn gets the turn's."""
    distill: Distill | None = None
    """Self-distillation from feedback; it costs a second forward pass over the rows that have any."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.distill is not None and self.estimator is not None:
            raise ValueError(
                "loss.distill gives each token an advantage of its own and loss.estimator makes them of an outcome: "
                "unset one of the two"
            )
        return self


class OptimConfig(BaseModel):
    """What learns and how fast."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int | None = Field(default=10, ge=1)
    """Train the last n layers and the final norm; embeddings and head stay frozen. ``None``: every weight."""
    lora: int | None = Field(default=None, ge=1)
    """Rank of LoRA adapters on the linear layers of those layers instead of the layers themselves."""
    lr: float = Field(default=2e-5, gt=0)
    """Of policy-gradient steps."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    tokens: int = Field(default=2048, ge=16)
    """Budget of one micro-batch: how many tokens are in memory at a time. It changes no result."""
    checkpointing: bool | None = None
    """Keep only the input of each layer and compute the rest again in the backward pass: a third more time for a
    fraction of the memory. It changes no result."""
    warmup: int | None = Field(default=None, ge=1)
    """Policy-gradient steps over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] | None = None
    """How the rate of policy-gradient steps falls behind the warm-up; ``None``: it does not."""
    horizon: int | None = Field(default=None, ge=1)
    """The step from which the falling rate is a tenth of ``lr``."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a running average of the weights, which evaluations after training use
    (:mod:`trainers.learning.average`). It costs a copy of what learns. ``None``: they use the last weights."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.lora is not None and self.layers is None:
            raise ValueError("optim.lora needs optim.layers: the number of last layers that get adapters")
        if self.schedule in ("linear", "cosine") and self.horizon is None:
            raise ValueError(f"optim.schedule = '{self.schedule}' needs optim.horizon: the step at which the fall ends")
        return self


class ScaleConfig(BaseModel):
    """Several GPUs, and what ``--plan`` assumes of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: int = Field(default=1, ge=1)
    """GPUs that learn: one process each, started by ``torchrun --nproc-per-node``."""
    parallel: Literal["ddp", "fsdp2", "deepspeed"] = "ddp"
    """``ddp``: every rank holds everything, gradients are summed. ``fsdp2``: weights, gradients and optimiser are
    shared out, and a server samples (:mod:`trainers.learning.sharded`). ``deepspeed``: whole weights, the rest is
    shared out (:mod:`trainers.learning.zero`; the package deepspeed)."""
    zero: Literal[1, 2] | None = None
    """Stage of ``deepspeed``: 1 shares the optimiser's state out, 2 the gradients as well. ``None``: as accelerate was
    told, or 2."""
    samplers: int = Field(default=0, ge=0)
    """GPUs of the sampling server alone; 0: it shares those that learn."""
    tensor: int = Field(default=1, ge=1)
    """GPUs of one replica of the sampling server (its tensor parallelism)."""
    memory_gb: float = Field(default=80.0, gt=0)
    """Memory of one GPU."""
    tflops: float = Field(default=989.0, gt=0)
    """Peak of one GPU in dense bfloat16 (H100 SXM: 989, A100: 312)."""
    bandwidth_tb: float = Field(default=3.35, gt=0)
    """Memory bandwidth of one GPU in TB/s (H100 SXM: 3.35, A100 80 GB: 2.0)."""
    mfu: float = Field(default=0.25, gt=0, le=1)
    """Share of the peak that an update reaches."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.zero is not None and self.parallel != "deepspeed":
            raise ValueError(
                f"scale.zero is a stage of DeepSpeed and scale.parallel is '{self.parallel}': unset it, or set "
                "scale.parallel to 'deepspeed'"
            )
        sampling = self.samplers or self.gpus
        if sampling % self.tensor:
            raise ValueError(
                f"scale.tensor = {self.tensor} does not divide the {sampling} GPUs that sample: set it to a divisor"
            )
        return self
