"""Numbers of a run, sent to whatever watches it: TensorBoard, trackio, wandb.

``metrics.jsonl`` is always written and is what a run's summary is computed from. A watcher gets the same numbers, flat,
and may fail without harm: the run says so once and goes on without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainers.errors import TrainingError

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}
"""Watcher -> the distribution that it needs."""


class Watcher(Protocol):
    """Takes numbers."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of one line of the metrics, under flat names."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """``{"rates": {"infra": 0.1}}`` as ``rates/infra``; what is no number is left out."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def check(names: Sequence[str]) -> None:
    """Refuse a watcher whose package is not installed. Raises :class:`TrainingError`."""
    for name in names:
        module = "torch.utils.tensorboard" if name == "tensorboard" else name
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise TrainingError(
                f"train.watch names {name}, but its package is not installed ({module} needs it): "
                f"run 'pip install {PACKAGES[name]}', or leave it out"
            )


def start(names: Sequence[str], run: Path, config: str) -> list[Watcher]:
    """The watchers of a run with a resolved config. Raises :class:`TrainingError` for one that cannot be."""
    check(names)
    return [
        TensorBoard(run / "tensorboard") if name == "tensorboard" else Tracker(name, run.name, config) for name in names
    ]


@dataclass(slots=True)
class TensorBoard:
    """Event files in the run's folder."""

    folder: Path
    writer: Any = field(init=False)

    def __post_init__(self) -> None:
        module: Any = importlib.import_module("torch.utils.tensorboard")
        self.writer = module.SummaryWriter(str(self.folder))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One scalar a number."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self.writer.close()


@dataclass(slots=True)
class Tracker:
    """trackio and wandb share these three calls."""

    package: str
    name: str
    config: str
    module: Any = field(init=False)

    def __post_init__(self) -> None:
        self.module = importlib.import_module(self.package)
        self.module.init(project="repodojo", name=self.name, config=tomllib.loads(self.config))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One call a line."""
        self.module.log(dict(numbers), step=step)

    def close(self) -> None:
        """The run is complete."""
        self.module.finish()


@dataclass(slots=True)
class Watchers:
    """All watchers of a run; one that fails is dropped with a word."""

    all: list[Watcher]
    say: Callable[[str], None]

    def log(self, step: int, record: Mapping[str, Any]) -> None:
        """A line of the metrics, its numbers under its kind."""
        numbers = dict(flat(record, f"{record.get('kind', 'run')}/"))
        for watcher in list(self.all):
            try:
                watcher.log(step, numbers)
            except Exception as error:
                self.all.remove(watcher)
                self.say(f"{type(watcher).__name__} is not told any more: {type(error).__name__}: {error}")

    def close(self) -> None:
        """End those that are left."""
        for watcher in self.all:
            watcher.close()
