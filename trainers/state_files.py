"""A learner's state as files: weights and optimiser as safetensors, counters as JSON.

The files hold only what learns; the rest of the model comes from its folder again. The caller writes them into a folder
that it renames into place, so a half-written state is never read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.tokenizer import ModelError

if TYPE_CHECKING:
    from trainers.learner import TransformersLearner

WEIGHTS, OPTIMISER, REFERENCE, COUNTERS = (
    "weights.safetensors",
    "optimiser.safetensors",
    "reference.safetensors",
    "learner.json",
)


def save(learner: TransformersLearner, folder: Path) -> None:
    """Write the files. There is no random state to keep: nothing in a step draws."""
    from safetensors.torch import save_file

    if learner.ranks.rank:
        return
    save_file({name: p.detach().contiguous() for name, p in learner.masters.items()}, folder / WEIGHTS)
    moments = {
        f"{name}/{key}": value.contiguous()
        for name, parameter in learner.masters.items()
        for key, value in learner.optimiser.state.get(parameter, {}).items()
    }
    save_file(moments, folder / OPTIMISER)
    if learner.reference:
        save_file(learner.reference, folder / REFERENCE)
    counters = {
        "stage": learner.stage,
        "imitated": learner.imitated,
        "stepped": learner.stepped,
        "version": learner.model.version,
    }
    (folder / COUNTERS).write_text(json.dumps(counters))


def load(learner: TransformersLearner, folder: Path) -> None:
    """Read the files into a learner of the same shape. Raises :class:`ModelError`; a refused learner is unchanged."""
    import torch

    counters: dict[str, Any] = json.loads(_text(folder / COUNTERS))
    weights, moments = _tensors(folder / WEIGHTS), _tensors(folder / OPTIMISER)
    _fit(learner, weights, folder)
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            learner.masters[name].copy_(weights[name])
            parameter.copy_(weights[name])
    learner.enter(counters["stage"])
    learner.optimiser.state.clear()
    for key, value in moments.items():
        name, _, field = key.rpartition("/")
        learner.optimiser.state[learner.masters[name]][field] = value
    learner.reference = _tensors(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
    learner.imitated, learner.model.version = counters["imitated"], counters["version"]
    learner.stepped = counters.get("stepped", 0)


def load_weights(net: Any, folder: Path) -> None:
    """Only the weights of a checkpoint, into a model that is not going to learn."""
    weights = _tensors(folder / WEIGHTS)
    missing = net.load_state_dict(weights, strict=False)
    if missing.unexpected_keys:
        raise ModelError(f"the checkpoint {folder} belongs to another model ({missing.unexpected_keys[0]} is unknown)")


def _fit(learner: TransformersLearner, weights: dict[str, Any], folder: Path) -> None:
    shapes = {name: tuple(p.shape) for name, p in learner.parameters.items()}
    if {name: tuple(value.shape) for name, value in weights.items()} != shapes:
        raise ModelError(
            f"the checkpoint {folder} holds other weights than this config trains; "
            "resume it with the config that it was made with"
        )


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"the checkpoint file {path} cannot be read ({error}); delete its folder to use an older one")
