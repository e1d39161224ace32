"""Checkpoints: a folder that is there whole or not at all.

``checkpoints/000012/`` holds ``state.json`` and what the learner saved. It is written under another name, synced,
renamed into place, and the parent synced: a kill at any moment leaves the last whole one. Only the newest ``keep``
stay. The state names the config it belongs to; another one is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trainers.errors import TrainingError
from trainers.protocol import Learner


class Phase(StrEnum):
    """The stages of a run, in order. A state names the one to run next."""

    BEFORE = "before"
    """Evaluation before any training."""
    SFT = "sft"
    """Supervised warm start."""
    WARM = "warm"
    """Evaluation after the warm start."""
    GRPO = "grpo"
    AFTER = "after"
    """Evaluation after the last update."""
    DONE = "done"


class State(BaseModel):
    """All of a run's progress that is neither weights nor files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str
    """Digest of the resolved config."""
    serial: int = 0
    """Number of this checkpoint."""
    phase: Phase = Phase.BEFORE
    batch: int = 0
    """Warm-start batches done."""
    step: int = 0
    """Policy-gradient steps done."""
    frontier: int = 0
    """First prompt ordinal not yet consumed."""
    used: tuple[int, ...] = ()
    """Ordinals behind the frontier that are consumed already: groups finish out of order when updates do not wait."""
    rests: dict[int, int] = {}
    """Training task -> first epoch that may use it again."""
    lines: int = 0
    """Lines of the metrics file that belong to this state."""
    elapsed: float = 0.0
    """Wall time used so far, in seconds, over all resumptions."""
    seconds: dict[str, float] = {}
    """Wall time by phase."""
    pace: float = 0.0
    """Wall time of one episode of the last evaluation, in seconds: what the next one will cost."""


def save(run: Path, state: State, learner: Learner, keep: int) -> State:
    """Write the next checkpoint; returns the state with its serial."""
    home = run / "checkpoints"
    home.mkdir(exist_ok=True)
    state = state.model_copy(update={"serial": state.serial + 1})
    new = home / f".{state.serial:06d}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        learner.save(new)
        (new / "state.json").write_text(state.model_dump_json(indent=1))
        _sync(new)
        new.replace(home / f"{state.serial:06d}")
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync_one(home)
    for old in _all(run)[:-keep]:
        shutil.rmtree(old)
    return state


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return next(reversed(_all(run)), None)


def load(folder: Path, config: str) -> State:
    """The state of a checkpoint. Raises :class:`TrainingError` when it belongs to another config or is damaged."""
    try:
        state = State.model_validate_json((folder / "state.json").read_text())
    except (OSError, ValidationError):
        raise TrainingError(f"the checkpoint {folder} has no readable state.json; delete that folder") from None
    if state.config != config:
        raise TrainingError(f"the checkpoint {folder} was made with another config; start a new run for this one")
    return state


def clean(run: Path) -> None:
    """Remove what a kill left half-written."""
    for left in (run / "checkpoints").glob(".*.new"):
        shutil.rmtree(left)


def _all(run: Path) -> list[Path]:
    home = run / "checkpoints"
    found = home.iterdir() if home.exists() else ()
    return sorted(path for path in found if re.fullmatch(r"\d{6,}", path.name))


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
