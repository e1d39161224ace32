"""FSDP2: each rank holds a part of every weight, of its gradient and of the optimiser's state.

torch's ``fully_shard`` (Zhao et al., arXiv:2304.11277): the weights of a layer are gathered while the layer runs,
forward and backward, and its gradient is summed into the parts. What this module adds is that gradients are summed and
not averaged (normalisers are those of the whole step), and that the head, whose weight the loss reads without calling
it, belongs to one forward pass with everything else.

Every pass is a collective call, so all ranks make the same number of them
(:meth:`trainers.learning.learner.TransformersLearner` pads with empty ones). Accelerate's plugin is the place of the
settings: those of ``accelerate launch`` with a file for FSDP2 hold. Its own preparation is not used: it needs a GPU,
and shards the head as a module that is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any

from trainers.errors import TrainingError
from trainers.model import forward

if TYPE_CHECKING:
    from torch import Tensor


def shard(net: Any, device: str) -> None:
    """Share the weights of a network out over the default process group, layer by layer, in place.

    Which of them learn is decided before. Raises :class:`TrainingError` for settings that are not honoured.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    # Sums over ranks in half precision would lose what single ranks add.
    half = net.lm_head.weight.dtype in (torch.bfloat16, torch.float16)
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32 if half else None)
    for layer in net.base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=reshards())
    # Gathered anew for every pass: between two of them the values may have changed (the reference model).
    fully_shard(net, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    setattr(net, forward.WHOLE, MethodType(forward.compute, net))
    register_fsdp_forward_method(net, forward.WHOLE)


def reshards() -> bool:
    """Whether a layer's weights are given back between its forward and its backward pass, as accelerate's file says."""
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin: Any = FullyShardedDataParallelPlugin(fsdp_version=2)
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise TrainingError(
            "fsdp_offload_params keeps the learner's weights on the CPU, where they cannot learn yet: "
            "set it to false in accelerate's file, and use more GPUs or optim.lora"
        )
    return bool(plugin.reshard_after_forward)


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which the ranks hold parts; a collective call. Any other tensor is itself."""
    full: Any = getattr(tensor, "full_tensor", None)
    return full() if full else tensor


def alike(value: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole value, shared out as ``like`` is; the value itself where that is whole."""
    if not hasattr(like, "full_tensor") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    placed = value.to(shared.device)
    return distribute_tensor(placed, shared.device_mesh, shared.placements, src_data_rank=None)


def state(net: Any) -> Iterator[tuple[str, Tensor]]:
    """The network's state, each tensor whole and on the CPU; a collective call, one tensor at a time."""
    for name, value in net.state_dict().items():
        yield name, whole(value.detach()).cpu()
