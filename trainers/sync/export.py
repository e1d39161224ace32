"""Weights as a folder in the format of transformers, or of PEFT: complete or not at all.

LoRA adapters are merged into a full export, ``W + B A * scale``, in the precision of the weights that learn.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.config import OptimConfig
from trainers.model.load import Model

if TYPE_CHECKING:
    from torch import Tensor

SMALL = ("*.json", "*.jinja", "*.txt", "*.model")
"""What a model folder holds besides weights."""
INDEX = "model.safetensors.index.json"
"""Names the shards of a folder; an export has none."""


def full(model: Model, source: Path, folder: Path) -> Path:
    """All weights into ``folder``, with configuration and tokenizer from ``source``. Returns the folder."""
    from safetensors.torch import save_file

    def write(new: Path) -> None:
        for pattern in SMALL:
            for path in source.glob(pattern):
                if path.name != INDEX:
                    shutil.copyfile(path, new / path.name)
        save_file(dict(tensors(model)), new / "model.safetensors", metadata={"format": "pt"})

    return _whole(folder, write)


def changed(model: Model, names: Collection[str], folder: Path) -> Path:
    """Only the tensors that learn, under their names in a checkpoint; those of a layer with adapters are merged."""
    from safetensors.torch import save_file

    owners = {name.split(".lora_")[0] for name in names if ".lora_" in name}
    wanted = {*names, *(f"{owner}.weight" for owner in owners)}

    def write(new: Path) -> None:
        found = {name: tensor for name, tensor in tensors(model) if name in wanted}
        save_file(found, new / "model.safetensors", metadata={"format": "pt"})

    return _whole(folder, write)


def adapter(model: Model, optim: OptimConfig, base: str, folder: Path) -> Path:
    """The LoRA adapters alone, in PEFT's format. ``base`` names the model that they belong to."""
    from safetensors.torch import save_file

    def write(new: Path) -> None:
        found = dict(_adapters(model))
        save_file(found, new / "adapter_model.safetensors", metadata={"format": "pt"})
        (new / "adapter_config.json").write_text(json.dumps(_settings(optim, base, sorted(found)), indent=1))

    return _whole(folder, write)


def tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Names as in a checkpoint of the model without adapters, and their values on the CPU. Tied weights come once."""
    tied = {"lm_head.weight"} if getattr(model.net.config, "tie_word_embeddings", False) else set[str]()
    layers = {name: module for name, module in model.net.named_modules() if hasattr(module, "lora_A")}
    found = model.state()
    for name, value in found.items():
        if name in tied or ".lora_" in name:
            continue
        owner = name.removesuffix(".base_layer.weight")
        merged = _merged(layers[owner], owner, found) if owner in layers else value
        yield name.replace(".base_layer.", "."), merged.detach().cpu().contiguous()


def _merged(layer: Any, owner: str, found: Mapping[str, Tensor]) -> Tensor:
    weight = found[f"{owner}.base_layer.weight"]
    for name in layer.lora_A:
        first, second = (found[f"{owner}.lora_{part}.{name}.weight"] for part in "AB")
        weight = weight + (second @ first) * layer.scaling[name]
    return weight


def _adapters(model: Model) -> Iterator[tuple[str, Tensor]]:
    for name, value in model.state().items():
        if ".lora_" in name:
            # PEFT's files name no adapter: lora_A.default.weight is lora_A.weight there.
            kept = [part for part in name.split(".") if part != "default"]
            yield f"base_model.model.{'.'.join(kept)}", value.detach().cpu().contiguous()


def _settings(optim: OptimConfig, base: str, names: list[str]) -> dict[str, Any]:
    rank = optim.lora or 0
    layers = sorted({int(part) for name in names for part in name.split(".") if part.isdigit()})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names}),
        "layers_to_transform": layers,
    }


def _whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write under another name and rename; a folder that is there already gives way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(new)
        new.chmod(0o755)  # the server may run as somebody else
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder
