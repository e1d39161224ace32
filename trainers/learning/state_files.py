"""A learner's state as files: weights and optimiser as safetensors, counters as JSON.

The files hold only what learns; the rest of the model comes from its folder again. The caller writes them into a folder
that it renames into place, so a half-written state is never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainers.model.tokenizer import ModelError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, OPTIMISER, REFERENCE, COUNTERS = (
    "weights.safetensors",
    "optimiser.safetensors",
    "reference.safetensors",
    "learner.json",
)


@dataclass(frozen=True, slots=True)
class Counters:
    """Where a learner stands."""

    stage: Literal["sft", "policy"]
    imitated: int
    """Supervised steps made."""
    stepped: int
    """Policy-gradient steps made."""
    version: int
    """Of the model's weights."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A learner's state; all tensors are whole."""

    weights: Mapping[str, Tensor]
    """What learns, in full precision."""
    moments: Mapping[str, Tensor]
    """The optimiser's state as ``weight/key``; empty before the first step."""
    reference: Mapping[str, Tensor]
    """What learned before the first policy-gradient step, where a penalty needs it."""
    counters: Counters


def save(saved: Saved, folder: Path) -> None:
    """Write the files."""
    from safetensors.torch import save_file

    save_file(dict(saved.weights), folder / WEIGHTS)
    save_file(dict(saved.moments), folder / OPTIMISER)
    if saved.reference:
        save_file(dict(saved.reference), folder / REFERENCE)
    (folder / COUNTERS).write_text(json.dumps(asdict(saved.counters)))


def load(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Saved:
    """Read the files of a learner with weights of these shapes. Raises :class:`ModelError`."""
    counters: dict[str, Any] = {"stepped": 0} | json.loads(_text(folder / COUNTERS))
    saved = Saved(
        weights=_tensors(folder / WEIGHTS),
        moments=_tensors(folder / OPTIMISER),
        reference=_tensors(folder / REFERENCE) if (folder / REFERENCE).exists() else {},
        counters=Counters(**counters),
    )
    if {name: tuple(value.shape) for name, value in saved.weights.items()} != shapes:
        raise ModelError(
            f"the checkpoint {folder} holds other weights than this config trains; "
            "resume it with the config that it was made with"
        )
    return saved


def load_weights(net: Any, folder: Path) -> None:
    """Only the weights of a checkpoint, into a model that is not going to learn."""
    weights = _tensors(folder / WEIGHTS)
    missing = net.load_state_dict(weights, strict=False)
    if missing.unexpected_keys:
        raise ModelError(f"the checkpoint {folder} belongs to another model ({missing.unexpected_keys[0]} is unknown)")


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
