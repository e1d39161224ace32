"""A group given by hand as plain data: how a person learns what a recipe does, and how tests make trajectories.

    {"trajectories": [{"outcome": "tests_fail", "turns": [{"tests": "110100", "format_ok": true}]}], "f2p": [0, 1],
    "p2p": [2, 3, 4, 5]}

Every field of a turn is optional. Without ``tree`` each turn with ``tests`` is an attempt; with it, a turn is one
when it reaches a tree not seen before in its episode, ``base`` included. ``f2p`` and ``p2p`` index the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.trajectory import Action, End, Facts, Key, Outcome, Trajectory, Turn
from rewards.facts import Suite
from rewards.recipe import Recipe
from rewards.table import as_data, as_text
from sandbox.task import Failure, Status, Verdict

TASK = "matrix"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MatrixTurn(_Strict):
    """One turn; what is absent was not measured."""

    tests: str | None = Field(default=None, pattern="^[01]*$")
    """One digit per test: 1 passed."""
    format_ok: bool = True
    tool_ok: bool = True
    diagnostics: int | None = Field(default=None, ge=0)
    safe: bool | None = None
    confidence: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    tree: str | None = None
    action: str | None = None
    """Name of the tool."""
    suppressed: int | None = Field(default=None, ge=0)
    tokens: int = Field(default=1, ge=1)
    """Tokens sampled in this turn."""


class MatrixTrajectory(_Strict):
    outcome: Outcome
    turns: tuple[MatrixTurn, ...] = ()
    diagnostics: int | None = Field(default=None, ge=0)
    """Before the first turn; where absent, the first turn's count."""
    flags: tuple[str, ...] = ()
    """Suspicions of the grader."""


class Matrix(_Strict):
    """The whole file."""

    trajectories: tuple[MatrixTrajectory, ...] = Field(min_length=1)
    f2p: tuple[int, ...] = ()
    p2p: tuple[int, ...] = ()
    base: str = "base"
    """The tree that every episode starts from."""

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        widths = {len(turn.tests) for one in self.trajectories for turn in one.turns if turn.tests is not None}
        if len(widths) > 1:
            raise ValueError(f"all 'tests' of a group must be equally long, not {sorted(widths)}")
        width = max(widths, default=0)
        if beyond := [index for index in (*self.f2p, *self.p2p) if not 0 <= index < width]:
            raise ValueError(f"f2p and p2p index {width} tests, and {beyond[0]} is none of them")
        return self

    def group(self) -> tuple[Trajectory, ...]:
        """The trajectories, with tests named ``t0``, ``t1``, ..."""
        return tuple(_trajectory(index, one, self.base) for index, one in enumerate(self.trajectories))

    def suites(self) -> dict[str, Suite]:
        """By task; empty when the file names neither set."""
        if not self.f2p and not self.p2p:
            return {}
        return {TASK: Suite(tuple(map(_test, self.f2p)), tuple(map(_test, self.p2p)))}


def _test(index: int) -> str:
    return f"t{index}"


def _trajectory(index: int, one: MatrixTrajectory, base: str) -> Trajectory:
    submitted = one.outcome in (Outcome.EMPTY_PATCH, Outcome.TESTS_FAIL, Outcome.TESTS_PASS)
    graded = one.outcome in (Outcome.TESTS_FAIL, Outcome.TESTS_PASS)
    status = Status.RESOLVED if one.outcome is Outcome.TESTS_PASS else Status.FAILED
    first = one.turns[0].diagnostics if one.turns else None
    return Trajectory(
        task=TASK,
        key=Key(seed=0, step=0, prompt=0, sample=index),
        policy="by hand",
        turns=_turns(one.turns, base),
        end=End.SUBMITTED if submitted else End.INFRA if one.outcome is Outcome.INFRA else End.TURNS,
        failure=Failure.INFRA if one.outcome is Outcome.INFRA else None,
        base_tree=base,
        base_diagnostics=first if one.diagnostics is None else one.diagnostics,
        tests=tuple(_test(j) for j in range(max((len(turn.tests or "") for turn in one.turns), default=0))),
        patch="by hand" if graded else "",
        verdict=Verdict(status=status, flags=one.flags) if graded else None,
    )


def _turns(turns: tuple[MatrixTurn, ...], last: str) -> tuple[Turn, ...]:
    made: list[Turn] = []
    for turn in turns:
        changed = turn.tests is not None if turn.tree is None else turn.tree != last
        last = last if turn.tree is None else turn.tree
        made.append(_turn(turn, changed))
    return tuple(made)


def _turn(turn: MatrixTurn, changed: bool) -> Turn:
    return Turn(
        prompt=(),
        sampled=(0,) * turn.tokens,
        logprobs=(0.0,) * turn.tokens,
        text="",
        action=None if turn.action is None else Action(tool=turn.action),
        facts=Facts(
            format_ok=turn.format_ok,
            tool_ok=turn.tool_ok,
            tree=turn.tree,
            changed=changed,
            attempt=changed,
            diagnostics=turn.diagnostics,
            suppressed=turn.suppressed,
            confidence=turn.confidence,
            safe=turn.safe,
            tests=turn.tests,
        ),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """A result for machines and for people."""

    data: dict[str, Any]
    text: str


def score_matrix(data: Any, recipe: Recipe) -> Report:
    """Score a group given as plain data. Raises ``pydantic.ValidationError`` for a broken matrix,
    :class:`RewardError` for a missing fact.
    """
    matrix = Matrix.model_validate(data)
    group = matrix.group()
    scored = Recipe(recipe.config, matrix.suites())
    found = as_data(group, scored, scored.explain(group))
    return Report(found, as_text(found))
