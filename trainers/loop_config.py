"""Settings of a run's loop and of its evaluations. Torch-free."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Stage = Literal["before", "warm", "after"]
"""When an evaluation is made: before any training, after the warm start, after the last update."""


class TrainConfig(BaseModel):
    """How groups are played and how long a run lasts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["sync", "one-step-off", "async"] = "sync"
    """``sync``: a step's episodes are all played with the weights that the step then updates, in fixed batches.
    ``one-step-off``: the next step's are played meanwhile. ``async``: episodes stay in flight over updates."""
    staleness: int | None = Field(None, ge=1)
    """Of ``async``: how many updates may be made between the start of a group and the step that learns from it; 2 when
    unset."""
    spare: int | None = Field(None, ge=1)
    """Samples of a prompt that are started beyond ``group``; those still running when ``group`` have finished are cut.
    Not in ``sync``. It favours short episodes."""
    deadline: float | None = Field(None, gt=0)
    """Seconds after which an episode is abandoned and its group goes on without it. Not in ``sync``. A safety net above
    ``agent.wall_s``, which ends an episode as the policy's own doing."""
    hints: int | None = Field(None, ge=1, le=3)
    """Play the task of a group that nobody solved again with hints up to this level: 1 the files, 2 the places, 3 the
    fix (:mod:`trainers.rollout.hints`). Only in ``sync``."""
    fill: int | None = Field(None, ge=1)
    """At most so many groups without contrast are replaced by further prompts in a step (dynamic sampling of DAPO)."""
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
    """Episodes that are generated together. Fixed waves make batches, and so a resumed run, exact."""
    waves: int = Field(2, ge=1)
    """Waves in flight: while one generates, the others' commands run and their patches are graded. At most ``waves *
    wave`` episodes are live at a time, in every mode."""
    starts: int = Field(2, ge=1)
    """Sandboxes that may be starting at the same time."""
    graders: int = Field(2, ge=1)
    """Patches graded at the same time."""
    max_infra: float = Field(0.5, ge=0, le=1)
    """Share of a step's episodes that may end by infrastructure; above it the run stops with the reason."""
    checkpoint_every: int = Field(1, ge=1)
    """Steps between checkpoints. Episodes are stored as they finish: only updates are computed again after a kill."""
    watch: tuple[Literal["tensorboard", "trackio", "wandb"], ...] | None = None
    """What is told the numbers of ``metrics.jsonl`` as they come, each if its package is installed."""
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
        if self.staleness is not None and self.mode != "async":
            raise ValueError(f"train.staleness needs train.mode = 'async'; '{self.mode}' fixes it at {self.bound}")
        timed = {"train.spare": self.spare, "train.deadline": self.deadline}
        if self.mode == "sync" and (given := [name for name, value in timed.items() if value is not None]):
            raise ValueError(
                f"{given[0]} lets timing decide what is learned, which train.mode = 'sync' does not; "
                "unset it, or set train.mode to 'async' or 'one-step-off'"
            )
        return self

    @model_validator(mode="after")
    def _hinted(self) -> Self:
        if self.hints is not None and self.mode != "sync":
            raise ValueError(f"train.hints needs train.mode = 'sync', not '{self.mode}': unset it, or change the mode")
        return self

    @property
    def bound(self) -> int:
        """Updates that may be made between the start of a group and the step that learns from it."""
        return {"sync": 0, "one-step-off": 1, "async": self.staleness or 2}[self.mode]


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
