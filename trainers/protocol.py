"""The seams of the training floor: what samples, what learns, what credits.

The trainer is algorithm-blind: it sees rows of tokens with per-token advantages and knows no reward by name
(invariant 3). This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.policy import Policy
from agent.trajectory import Trajectory
from rewards.credit import Credit


@dataclass(frozen=True, slots=True)
class Row:
    """One training row: a segment of a trajectory with per-token credit. All tuples have the same length."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    """Sampled positions. Only they carry loss."""
    logprobs: tuple[float, ...]
    """Behaviour log-probabilities (sampler's), 0.0 where unmasked."""
    advantages: tuple[float, ...]
    """0.0 where unmasked; a non-zero advantage on an unmasked position raises (invariant 2)."""
    rollout: str
    """Rows of one rollout count once in every sequence-level reduction (invariant 8)."""
    group: str
    """Rows of one group share their prompt, which an engine may compute once."""
    lesson: str = ""
    """Feedback that was not in the context; read where the loss distils from it."""


class Scorer(Protocol):
    """Turns one group of trajectories into credit."""

    def score(self, group: Sequence[Trajectory]) -> Credit: ...


class Engine(Protocol):
    """Owns the weights that sample and makes policies of them."""

    @property
    def version(self) -> int:
        """How often the weights were updated."""
        ...

    def policy(self, *, temperature: float) -> Policy:
        """A policy over the current weights (greedy at temperature 0)."""
        ...

    def close(self) -> None: ...


class Learner(Protocol):
    """Owns the weights that learn. An engine in the same process shares them; another one is told by ``version``."""

    def update(self, rows: Sequence[Row]) -> dict[str, float]:
        """One optimiser step over all rows; returns metrics (loss, grad_norm, ratio_max, kl, clip_share, tokens)."""
        ...

    def imitate(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised step: cross-entropy on masked positions."""
        ...

    def save(self, folder: Path) -> None:
        """Weights, optimiser and RNG, complete or not at all (the caller renames the folder into place)."""
        ...

    def load(self, folder: Path) -> None: ...
