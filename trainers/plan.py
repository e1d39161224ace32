"""What a run will need, before anything is loaded: memory of a GPU and seconds of a step, term by term.

Memory, in bytes on one of G learning GPUs (P parameters, L of them learning, D the ranks that share the state: G with
``fsdp2``, else 1; b = 2 in bfloat16, 4 in float32):

    weights       b P / D
    gradients     b L / D; ``deepspeed`` 4 L / G in stage 2, 4 L in stage 1, and a bucket of 4e8 that travels
    optimiser     8 L / D in float32; in bfloat16 12 L / D, because masters in float32 come on top of Adam's moments;
                  ``deepspeed`` 12 L / G
    unsharded     2 layers of b bytes a parameter, gathered at a time (``fsdp2``)
    activations   N tokens of a micro-batch: with checkpointing b N h for each learning layer and one layer in full,
                  else every learning layer in full; a full layer keeps b N (8 h + 3 q + 4 k + 4 i), q, k and i being
                  the widths of queries, keys and MLP (flash attention keeps no scores)
    logits        256 positions at a time in float32, three copies: 12 * 256 V
    reference     b L / D of a KL penalty that is not off-loaded; average  4 L of ``optim.ema``
    sampler       on the same GPUs: weights b P and keys for the live episodes, asleep while the weights learn (``vllm``
                  with ``share``); in one process (``transformers``) the weights are shared and the keys stay
    reserve       6 % of the GPU for the CUDA context and fragmentation

Time of a step (E episodes of T tokens, S of them sampled; A parameters used by a token):

    update        2 A for each token of the forward pass; 4 A of the backward pass (2 A with adapters) and 2 A more with
                  checkpointing, both for the share of the layers that learn; over G GPUs at ``peak`` times ``mfu``
                  (times 0.4 with experts)
    generation    the longest episode's S steps; each reads the weights and the keys of the replica's episodes once, at
                  the memory bandwidth times 0.6
    prefill       2 A for each token that was not sampled, at ``peak`` times 0.4

Commands, tests and weight transfer are not in it: they depend on the tasks. Against published runs (tests) the
estimate is between two fifths and the whole of what they report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig
from trainers.learning.zero import BUCKET
from trainers.model.shapes import Shape

GB = 1e9
READ = 0.6
"""Share of the memory bandwidth that decoding reaches."""
PREFILL = 0.4
"""Share of the peak that prefilling reaches."""
EXPERTS = 0.4
"""What experts leave of the utilisation: their matrices are small and tokens travel."""
RESERVE = 0.06


@dataclass(frozen=True, slots=True)
class Load:
    """What one step plays."""

    episodes: int
    tokens: int
    """Of one episode, in its last context."""
    sampled: int
    """Of them, sampled: all turns together."""
    live: int
    """Episodes that are played at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one GPU by purpose, and seconds of one step by stage."""

    memory: Mapping[str, float]
    peak: float
    """Bytes at the moment that needs most."""
    available: float
    seconds: Mapping[str, float]
    learning: int
    """Parameters that learn."""
    keys: float
    """Bytes of keys and values of one live episode at its full length."""
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        return self.peak <= self.available

    @property
    def step(self) -> float:
        """Seconds of one step."""
        return sum(self.seconds.values())


def learning(shape: Shape, optim: OptimConfig) -> int:
    """Parameters that learn."""
    layers = min(optim.layers or shape.layers, shape.layers)
    if optim.lora is not None:
        return shape.lora(optim.lora, layers)
    return shape.parameters if optim.layers is None else layers * shape.layer + shape.hidden


def estimate(
    shape: Shape,
    model: ModelConfig,
    optim: OptimConfig,
    scale: ScaleConfig,
    load: Load,
    loss: LossConfig | None = None,
) -> Estimate:
    """Memory and time of a run."""
    size = 2 if model.dtype == "bfloat16" else 4
    memory = _learner(shape, size, optim, scale) | _copies(shape, size, optim, scale, loss)
    keys = 2.0 * shape.layers * shape.kv * shape.head * size * load.tokens
    replicas = max(1, (scale.samplers or scale.gpus) // scale.tensor)
    held = keys * -(-load.live // replicas) / scale.tensor
    available = scale.memory_gb * GB * (1 - RESERVE)
    learner = sum(memory.values())
    notes = list[str]()
    if scale.samplers:
        memory["sampler"] = size * shape.parameters / scale.tensor + min(held, _room(shape, size, scale, available))
        peak = max(learner, memory["sampler"])
        swapped = held > _room(shape, size, scale, available)
    else:
        memory["keys"] = held
        peak = learner + held if scale.tensor == 1 else max(learner, size * shape.parameters / scale.tensor)
        swapped = scale.tensor > 1 and held > _room(shape, size, scale, available)
    if swapped:
        notes.append("not all live episodes' keys fit: the sampler will queue some; lower train.wave or train.waves")
    seconds = _seconds(shape, size, optim, scale, load, held)
    return Estimate(memory, peak, available, seconds, learning(shape, optim), keys, tuple(notes))


def _room(shape: Shape, size: int, scale: ScaleConfig, available: float) -> float:
    """Bytes for keys on a sampling GPU."""
    return max(0.0, available - size * shape.parameters / scale.tensor)


def _learner(shape: Shape, size: int, optim: OptimConfig, scale: ScaleConfig) -> dict[str, float]:
    count = learning(shape, optim)
    shared = scale.gpus if scale.parallel == "fsdp2" else 1
    depth = min(optim.layers or shape.layers, shape.layers)
    q, kv = shape.heads * shape.head, shape.kv * shape.head
    inner = shape.inner * max(1, shape.active)
    full = size * optim.tokens * (8 * shape.hidden + 3 * q + 4 * kv + 4 * inner)
    kept = full + size * optim.tokens * shape.hidden * depth if optim.checkpointing else full * depth
    gradients, optimiser = size * count / shared, (12.0 if size == 2 else 8.0) * count / shared
    if scale.parallel == "deepspeed":
        gradients = 4.0 * count / (1 if scale.zero == 1 else scale.gpus) + 4.0 * min(BUCKET, count)
        optimiser = 12.0 * count / scale.gpus
    return {
        "weights": size * shape.parameters / shared,
        "gradients": gradients,
        "optimiser": optimiser,
        "unsharded": 2.0 * size * shape.layer if shared > 1 else 0.0,
        "activations": float(kept),
        "logits": 12.0 * 256 * shape.vocabulary,
    }


def _copies(
    shape: Shape, size: int, optim: OptimConfig, scale: ScaleConfig, loss: LossConfig | None
) -> dict[str, float]:
    """Copies of what learns: the reference of a penalty, the running average."""
    count, shared = learning(shape, optim), scale.gpus if scale.parallel == "fsdp2" else 1
    kept = loss is not None and loss.kl is not None and not loss.kl.offload
    return {"reference": size * count / shared * kept, "average": 4.0 * count * (optim.ema is not None)}


def _seconds(
    shape: Shape, size: int, optim: OptimConfig, scale: ScaleConfig, load: Load, held: float
) -> dict[str, float]:
    share = min(optim.layers or shape.layers, shape.layers) / shape.layers
    passes = 2 + share * ((2 if optim.lora is not None else 4) + (2 if optim.checkpointing else 0))
    tokens, peak = load.episodes * load.tokens, scale.tflops * 1e12
    useful = scale.mfu * (EXPERTS if shape.experts else 1.0)
    samplers = scale.samplers or scale.gpus
    read = size * shape.parameters / scale.tensor + held / 2
    rounds = max(1.0, load.episodes / load.live)
    return {
        "update": passes * shape.used * tokens / (scale.gpus * peak * useful),
        "generation": rounds * load.sampled * read / (scale.bandwidth_tb * 1e12 * READ),
        "prefill": 2 * shape.used * load.episodes * (load.tokens - load.sampled) / (samplers * peak * PREFILL),
    }


def lines(name: str, shape: Shape, scale: ScaleConfig, found: Estimate) -> list[str]:
    """The plan as text, with the way out when it does not fit."""
    gpus = f"{scale.gpus} GPUs of {scale.memory_gb:g} GB" + (
        f" and {scale.samplers} to sample" if scale.samplers else ""
    )
    out = [
        f"{name}: {shape.parameters / GB:.2f} G parameters, {shape.used / GB:.2f} G used by a token, "
        f"{found.learning / GB:.3f} G learning; {gpus}, {scale.parallel}",
        "memory of one GPU:",
        *(f"  {part:<12} {value / GB:8.2f} GB" for part, value in found.memory.items() if value),
        f"  {'at the peak':<12} {found.peak / GB:8.2f} of {found.available / GB:.2f} GB usable",
        f"keys of one full episode: {found.keys / GB:.2f} GB",
        "time of one step, without commands, tests and weight transfer:",
        *(f"  {stage:<12} {value:8.1f} s" for stage, value in found.seconds.items()),
        f"  {'in all':<12} {found.step:8.1f} s",
        *(f"note: {note}" for note in found.notes),
        f"fits: {'yes' if found.fits else 'NO'}",
    ]
    return out if found.fits else [*out, f"way out: {way_out(scale, found)}"]


def way_out(scale: ScaleConfig, found: Estimate) -> str:
    """The cheapest change that helps the largest term."""
    parts = {part: value for part, value in found.memory.items() if part != "sampler"}
    worst = max(parts, key=lambda part: parts[part])
    if worst in ("activations", "logits"):
        return "set optim.checkpointing, or lower optim.tokens"
    if worst == "keys":
        return "lower train.wave or train.waves, or give the sampler GPUs of its own (scale.samplers)"
    if scale.parallel != "fsdp2" and scale.gpus > 1:
        return "share the state of the learner: scale.parallel = 'fsdp2'"
    return "learn adapters (optim.lora) or fewer layers (optim.layers), or use more GPUs (scale.gpus)"
