"""A learner's state as files: weights and optimiser as safetensors, counters as JSON.

The files hold only what learns; the rest of the model comes from its folder again. The caller writes them into a folder
that it renames into place, so a half-written state is never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.sharded import alike, whole
from trainers.tokenizer import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.learner import TransformersLearner

WEIGHTS, OPTIMISER, REFERENCE, COUNTERS = (
    "weights.safetensors",
    "optimiser.safetensors",
    "reference.safetensors",
    "learner.json",
)


def save(learner: TransformersLearner, folder: Path) -> None:
    """Write the files. There is no random state to keep: nothing in a step draws.

    Every rank gives its part of what is shared out, rank 0 writes: a checkpoint is the same for any number of ranks.
    """
    from safetensors.torch import save_file

    weights = _whole(learner, learner.masters)
    moments = {
        f"{name}/{key}": value
        for name, parameter in learner.masters.items()
        for key, value in _whole(learner, learner.optimiser.state.get(parameter, {})).items()
    }
    reference = _whole(learner, learner.reference)
    if learner.ranks.rank:
        return
    save_file(weights, folder / WEIGHTS)
    save_file(moments, folder / OPTIMISER)
    if reference:
        save_file(reference, folder / REFERENCE)
    counters = {
        "stage": learner.stage,
        "imitated": learner.imitated,
        "stepped": learner.stepped,
        "version": learner.model.version,
    }
    (folder / COUNTERS).write_text(json.dumps(counters))


def _whole(learner: TransformersLearner, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gathered by all ranks, kept by rank 0."""
    found = ((name, whole(value.detach())) for name, value in tensors.items())
    return {name: value.contiguous() for name, value in found if not learner.ranks.rank}


def load(learner: TransformersLearner, folder: Path) -> None:
    """Read the files into a learner of the same shape. Raises :class:`ModelError`; a refused learner is unchanged."""
    import torch

    counters: dict[str, Any] = json.loads(_text(folder / COUNTERS))
    weights, moments = _tensors(folder / WEIGHTS), _tensors(folder / OPTIMISER)
    _fit(learner, weights, folder)
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            value = alike(weights[name], parameter)
            learner.masters[name].copy_(value)
            parameter.copy_(value)
    learner.enter(counters["stage"])
    learner.optimiser.state.clear()
    for key, value in moments.items():
        name, _, field = key.rpartition("/")
        master = learner.masters[name]
        learner.optimiser.state[master][field] = alike(value, master)
    reference = _tensors(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
    learner.reference = {name: alike(value, learner.parameters[name]) for name, value in reference.items()}
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
