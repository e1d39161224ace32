"""Which weights learn: the last layers and the final norm, LoRA adapters on the last layers, or everything."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainers.config import OptimConfig

if TYPE_CHECKING:
    from torch import Tensor


def trainable(net: Any, config: OptimConfig) -> dict[str, Any]:
    """Set ``requires_grad`` on a network and return the parameters that learn, by name."""
    net.requires_grad_(False)
    layers = net.base_model.layers
    chosen = range(len(layers))[-config.layers :] if config.layers else range(len(layers))
    if config.lora is not None:
        _adapters(net, config.lora, list(chosen))
    elif config.layers is None:
        net.requires_grad_(True)
    else:
        for index in chosen:
            layers[index].requires_grad_(True)
        net.base_model.norm.requires_grad_(True)
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def _adapters(net: Any, rank: int, layers: list[int]) -> None:
    """LoRA on every linear layer of the chosen layers (scale 2, no dropout, the second matrix 0: nothing changes
    yet)."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, layers_to_transform=layers)
    inject_adapter_in_model(config, net)


@contextmanager
def swapped(parameters: Mapping[str, Any], values: Mapping[str, Tensor]) -> Generator[None]:
    """The network with other values of its trainable weights, for as long as the context lasts."""
    if any(hasattr(parameter, "full_tensor") for parameter in parameters.values()):
        with _copied(parameters, values):
            yield
        return
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = values[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]


@contextmanager
def _copied(parameters: Mapping[str, Any], values: Mapping[str, Tensor]) -> Generator[None]:
    """The same for weights that are shared out: what gathers them knows their memory, so that is what changes."""
    import torch

    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(own[name])
