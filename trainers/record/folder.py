"""The folder of a run: who may write it, and which config it belongs to.

    config.toml          the resolved config           metrics.jsonl   one line a step and an evaluation
    trajectories.jsonl   every training episode        evals-*.jsonl   every evaluation episode, by stage
    checkpoints/         the newest ones               summary.json    the run's result
    curves.png           the learning curves           log.txt         what the display said

One process writes it at a time (a lock the system drops when the process dies), and a run continues with the config it
was started with or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainers.errors import TrainingError
from trainers.record.checkpoint import clean


def digest(text: str) -> str:
    """Name of a resolved config: ``sha256:`` and 64 hex digits over its text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@contextmanager
def hold(run: Path, text: str, resume: bool) -> Generator[str]:
    """Hold a run's folder, new or resumed, for the config ``text``; yields the config's digest.

    Raises :class:`TrainingError` when a new run's folder is in use, a resumed one does not exist, is held by another
    process, or belongs to another config. A refusal leaves nothing behind.
    """
    config = run / "config.toml"
    if resume and not config.exists():
        raise TrainingError(f"{run} holds no run to resume (it has no config.toml); 'dojo train CONFIG' starts one")
    if resume and config.read_text() != text:
        raise TrainingError(
            f"{run} was started with another config ({_difference(config.read_text(), text)}); "
            "resume it without changes, or start a new run"
        )
    if not resume and run.exists() and any(run.iterdir()):
        raise TrainingError(f"{run} is already in use; 'dojo train --resume {run}' continues it")
    run.mkdir(parents=True, exist_ok=True)
    with _lock(run):
        if not resume:
            _write(config, text)
        clean(run)
        yield digest(text)


@contextmanager
def _lock(run: Path) -> Generator[None]:
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(f"another process is training in {run}; wait for it or stop it first") from None
        yield


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _difference(old: str, new: str) -> str:
    """The first key in which two configs differ, with both values."""
    before, after = dict(_flat(tomllib.loads(old))), dict(_flat(tomllib.loads(new)))
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            return f"{key} was {before.get(key, 'unset')!r} and is now {after.get(key, 'unset')!r}"
    return "the same values, written differently"


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
