"""A running average of the weights that learn (Polyak and Juditsky 1992): what evaluations after training use.

    average <- decay * average + (1 - decay) * weights        after every policy-gradient step that was made

It starts at the weights before the first of those steps and is kept in the precision of the masters. Sampling for
training never sees it: the average is of the policy that learns, not the policy itself. A checkpoint holds it, so that
a resumed run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.model.trainable import swapped

if TYPE_CHECKING:
    from torch import Tensor

FILE = "average.safetensors"


def start(masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights themselves, copied."""
    return {name: value.detach().clone() for name, value in masters.items()}


def move(average: Mapping[str, Tensor], masters: Mapping[str, Tensor], decay: float) -> None:
    """One step of the average, in place."""
    for name, value in average.items():
        value.lerp_(masters[name].detach(), 1 - decay)


@contextmanager
def lent(parameters: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> Generator[None]:
    """The network with the average for its weights, as long as it lasts; as it is without an average."""
    if not average:
        yield
        return
    with swapped(parameters, {name: value.to(parameters[name].dtype) for name, value in average.items()}):
        yield


def save(average: Mapping[str, Tensor], folder: Path) -> None:
    """Into a checkpoint, if there is one."""
    from safetensors.torch import save_file

    if average:
        save_file({name: value.contiguous() for name, value in average.items()}, folder / FILE)


def load(folder: Path, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint; empty where it holds none."""
    from safetensors.torch import load_file

    if not (folder / FILE).is_file():
        return {}
    return {name: value.to(masters[name].device) for name, value in load_file(folder / FILE).items()}
