"""DeepSpeed's ZeRO 1 and 2: whole weights on every rank, the optimiser's state (and the gradients) shared out.

Rajbhandari et al., arXiv:1910.02054. Stage 1 shares out masters and moments of AdamW, stage 2 the gradients as well:
each rank steps its part and all are given the new weights. DeepSpeed owns the backward pass and the step, so it is an
:class:`trainers.learning.optimiser.Optimiser`; what it is told so that it does what the others do:

* gradients are *summed* over the ranks: normalisers are those of the whole step (``gradient_allreduce_op``);
* a micro-batch is not divided by the number of micro-batches, which differs from step to step: one step of
  accumulation, whose end the learner tells (``set_gradient_accumulation_boundary``);
* sums over ranks are in float32, and torch's AdamW steps: no operator of DeepSpeed's is compiled;
* checkpoints hold whole tensors, gathered by its ``safe_get`` functions, so that any number of ranks reads them.

Moments exist from the start (one step at rate 0 makes them), because a checkpoint can only be read into what exists.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from trainers.config import OptimConfig
from trainers.errors import TrainingError
from trainers.learning.optimiser import adam
from trainers.model import forward

if TYPE_CHECKING:
    from torch import Tensor

OLDEST = (0, 19)
"""The first release that sums gradients over ranks."""
BUCKET = 100_000_000
"""Parameters whose gradients, or whose new weights, travel together: 0.4 GB of memory in float32."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Zero:
    """AdamW by DeepSpeed's ZeRO. See :class:`trainers.learning.optimiser.Optimiser`."""

    even = True

    def __init__(self, net: Any, parameters: Mapping[str, Any], config: OptimConfig, stage: int) -> None:
        """In place: ``net`` then computes through DeepSpeed's engine, wherever a gradient is wanted."""
        import torch

        self.parameters, self.tools = parameters, importlib.import_module("deepspeed.utils")
        half = net.lm_head.weight.dtype in (torch.bfloat16, torch.float16)
        self.engine: Any = _quiet().initialize(
            model=_pass(net), optimizer=adam(list(parameters.values()), config), config=settings(config, stage, half)
        )[0]

        def whole(flat: forward.Flat, temperature: float) -> tuple[Tensor, Tensor]:
            wanted = torch.is_grad_enabled()
            return self.engine(flat, temperature) if wanted else forward.compute(net, flat, temperature)

        setattr(net, forward.WHOLE, whole)
        nothing = torch.stack([parameter.sum() for parameter in parameters.values()]).sum() * 0
        self.backward(nothing, last=True)
        self.step(0.0)
        self.restart()

    @property
    def masters(self) -> Mapping[str, Tensor]:
        """Gathered anew: a call of all ranks."""
        return dict(self.weights())

    def backward(self, loss: Tensor, last: bool) -> None:
        """Stage 2 sums every micro-batch over the ranks, stage 1 all of them at the end."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss)

    def reduce(self) -> None:
        """The last backward pass did."""

    def gradient(self) -> dict[str, Tensor]:
        """In float32."""
        found = {name: self.tools.safe_get_full_grad(p).clone() for name, p in self.parameters.items()}
        self.engine.optimizer.zero_grad()
        for held in (self.engine.optimizer.averaged_gradients, self.engine.optimizer.all_grad_tensors):
            held.update(dict.fromkeys(held))
        return found

    def step(self, lr: float) -> float:
        """The norm of a gradient that is not finite is infinite."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def restart(self) -> None:
        """In place: what gathers the moments knows their memory."""
        for state in self._states():
            for value in state.values():
                value.zero_()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """On the CPU."""
        for name, parameter in self.parameters.items():
            yield name, self.tools.safe_get_full_fp32_param(parameter).cpu()

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """As AdamW over whole weights has them; on the CPU."""
        steps = next(iter(self._states()))["step"].cpu()
        for name, parameter in self.parameters.items():
            yield f"{name}/step", steps.clone()
            for key in _MOMENTS:
                yield f"{name}/{key}", self.tools.safe_get_full_optimizer_state(parameter, key).cpu()

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Every rank takes its part. A checkpoint from before the first step has no moments."""
        import torch

        self.restart()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                self.tools.safe_set_full_fp32_param(parameter, weights[name].to(parameter.device))
                for key in _MOMENTS if moments else ():
                    value = moments[f"{name}/{key}"].to(parameter.device)
                    self.tools.safe_set_full_optimizer_state(parameter, value, key)
        counted = [value for place, value in moments.items() if place.endswith("/step")]
        for state in self._states():
            for value in counted[:1]:
                state["step"].copy_(value)

    def _states(self) -> list[dict[str, Tensor]]:
        return list(self.engine.optimizer.optimizer.state.values())


def settings(config: OptimConfig, stage: int, half: bool) -> dict[str, Any]:
    """DeepSpeed's config of the engine."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.clip,
        "gradient_allreduce_op": "sum",
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "bf16": {"enabled": half},
        "zero_optimization": {"stage": stage, "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET},
        "zero_allow_untested_optimizer": True,
    }


def check(given: int | None) -> int:
    """The stage: as given, or as accelerate's file says, or 2. Raises :class:`TrainingError` for what is not
    honoured."""
    if importlib.util.find_spec("deepspeed") is None:
        raise TrainingError(
            "scale.parallel = 'deepspeed' needs the package deepspeed, which is not installed: "
            "run \"pip install 'repodojo[deepspeed]'\", or set scale.parallel to 'fsdp2'"
        )
    version = metadata.version("deepspeed")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise TrainingError(
            f"deepspeed {version} averages gradients over ranks, which are summed here: "
            f"install {'.'.join(map(str, OLDEST))} or later"
        )
    return _told(given) if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" else given or 2


def _told(given: int | None) -> int:
    """What ``accelerate launch --use_deepspeed`` was told."""
    from accelerate import DeepSpeedPlugin

    plugin: Any = DeepSpeedPlugin()
    stage = plugin.zero_stage
    if stage not in (1, 2):
        raise TrainingError(
            f"accelerate was told ZeRO stage {stage} and this trainer does stages 1 and 2: set zero_stage to one of "
            f"them, or scale.parallel to '{'fsdp2' if stage else 'ddp'}', which does the same as stage {stage}"
        )
    if given not in (None, stage):
        raise TrainingError(f"accelerate was told ZeRO stage {stage} and scale.zero is {given}: make them the same")
    moved = [plugin.offload_optimizer_device, plugin.offload_param_device]
    if any(device not in (None, "none") for device in moved):
        raise TrainingError(
            "accelerate was told to off-load DeepSpeed's state, which this trainer does not: set "
            "offload_optimizer_device and offload_param_device to none, and use more GPUs or optim.lora"
        )
    return stage


def _pass(net: Any) -> Any:
    """The module whose call is the whole pass: DeepSpeed watches what a module's call returns."""
    import torch

    class Pass(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, flat: forward.Flat, temperature: float) -> tuple[Tensor, Tensor]:
            return forward.compute(self.net, flat, temperature)

    return Pass()


def _quiet() -> Any:
    """The package, told the device before it looks for one; it logs warnings only."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("DS_ACCELERATOR", device)
    found: Any = importlib.import_module("deepspeed")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if device == "cpu":
        # Else it would compile an operator of its own for sums over ranks of one machine, at the first start.
        importlib.import_module("deepspeed.ops").__dict__["__compatible_ops__"] = {}
    return found
