"""Settings of a run's loop and of its evaluations. Torch-free."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Stage = Literal["before", "warm", "after"]
"""When an evaluation is made: before any training, after the warm start, after the last update."""


class TrainConfig(BaseModel):
    """How groups are played and how long a run lasts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["sync"] = "sync"
    """``sync``: a step's episodes are all played with the weights that the step then updates."""
    minutes: float | None = Field(28.0, gt=0)
    """Wall-clock budget of the whole run, evaluations and warm start included. ``None``: only ``steps`` ends it."""
    steps: int | None = Field(None, ge=0)
    """Number of policy-gradient steps; ``None``: as many as the budget allows."""
    prompts: int = Field(6, ge=1)
    """Prompts (tasks) of one step."""
    group: int = Field(8, ge=2)
    """Samples of one prompt."""
    temperature: float = Field(0.8, gt=0)
    """Of the sampler, and therefore of the trainer's log-probabilities."""
    wave: int = Field(24, ge=1)
    """Episodes that are generated together, in lockstep. Fixed waves make batches, and so a resumed run, exact."""
    waves: int = Field(2, ge=1)
    """Waves in flight: while one generates, the others' commands run and their patches are graded."""
    starts: int = Field(2, ge=1)
    """Sandboxes that may be starting at the same time."""
    graders: int = Field(2, ge=1)
    """Patches graded at the same time."""
    max_infra: float = Field(0.5, ge=0, le=1)
    """Share of a step's episodes that may end by infrastructure; above it the run stops with the reason."""
    checkpoint_every: int = Field(1, ge=1)
    """Steps between checkpoints. Episodes are stored as they finish: only updates are computed again after a kill."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept, the newest ones."""
    pool: int | None = Field(None, ge=1)
    """Train on the first n prompts of the frozen order only, epoch after epoch; ``None``: on all training tasks."""
    rest: int = Field(0, ge=0)
    """Epochs for which a training task rests after a group without contrast (too easy or too hard for now)."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.minutes is None and self.steps is None:
            raise ValueError("train.minutes and train.steps are both unset, so the run would never end: set one")
        if self.wave % self.group:
            raise ValueError(
                f"train.wave = {self.wave} is no multiple of train.group = {self.group}: a wave holds whole groups"
            )
        return self


class EvalConfig(BaseModel):
    """Evaluation on the held-out tasks: the same tasks and the same sample keys at every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = ("before", "warm", "after")
    """When to evaluate. ``()`` never does."""
    samples: int = Field(2, ge=1)
    """Episodes of each task."""
    temperature: float = Field(0.6, ge=0)
    """0 is greedy."""
    wave: int = Field(40, ge=1)
    """Episodes that are generated together."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.wave % self.samples:
            raise ValueError(f"eval.wave = {self.wave} is no multiple of eval.samples = {self.samples}")
        return self
