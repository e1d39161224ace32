"""Hints for groups that nobody solved: what they say, the credit they give, and a run with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from agent.policy import Policy, Sampled
from agent.store import Store
from agent.trajectory import Key, Outcome, Trajectory
from sandbox.task import Task
from trainers.doubles import Game, OutcomeScorer, components, episode, tasks
from trainers.learning.rows import rows
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.record.metrics import read
from trainers.rollout.hints import hint, hinted, hopeless, substituted

PATCH = "--- a/pkg/m.py\n+++ b/pkg/m.py\n@@ -10,3 +10,3 @@\n context\n-    return a - b\n+    return a + b\n"
TASK = tasks(["t"])[0].model_copy(update={"patch": PATCH, "problem_statement": "It adds wrongly.\n"})


def played(sample: int, *, solved: bool) -> Trajectory:
    key = Key(seed=0, step=0, prompt=0, sample=sample)
    return episode(TASK, key, "p", [Sampled(ids=(sample,), logprobs=(-1.0,), text="", cut=False)], solved=solved)


def test_hints_say_more_from_level_to_level_and_the_last_one_is_the_fix() -> None:
    first, second, third = (hint(PATCH, level) for level in (1, 2, 3))
    assert first == "Hint: the fix is in pkg/m.py."
    assert second == "Hint: the fix is in pkg/m.py, near lines 10 to 12."
    assert "return a + b" in third and "return a + b" not in first + second
    assert hinted(TASK, 1).problem_statement == f"It adds wrongly.\n\n{first}"
    assert hinted(TASK, 1).instance_id == TASK.instance_id


def test_one_hinted_success_gives_the_group_the_contrast_that_the_formula_says() -> None:
    group = [played(s, solved=False) for s in range(4)]
    assert hopeless(group) and not hopeless([*group, played(9, solved=True)])
    assert rows(group, OutcomeScorer().score(group)) == []
    helped = substituted(group, played(4, solved=True))
    credit = OutcomeScorer().score(helped)
    step = 1 - 2 / 3  # a solved task above failing tests, in this scorer
    assert credit.trajectory == pytest.approx((-step / 4, -step / 4, -step / 4, 3 * step / 4))
    assert [row.rollout[-1] for row in rows(helped, credit)] == ["0", "1", "2", "4"]


class Hard(Game):
    """Nobody solves anything without the second hint."""

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        self.played.append(key)
        drawn = await policy.sample((10,), key, 0, 1)
        sampled()
        return episode(task, key, policy.name, [drawn], solved="near lines" in task.problem_statement)


def run(folder: Path, **given: Any) -> tuple[list[dict[str, Any]], list[Trajectory]]:
    parts = components(game=Hard(), batches=1)
    train_tasks = [task.model_copy(update={"patch": PATCH}) for task in parts.train]
    made = type(parts)(train_tasks, [], parts.player, parts.scorer, parts.machine)
    config = TrainConfig.model_validate(
        {"steps": 2, "minutes": None, "prompts": 2, "group": 4, "wave": 8, "waves": 1, **given}
    )
    settings = Settings(0, config, EvalConfig.model_validate({"stages": ()}), "seed = 0\n", picture=False)
    train(made, settings, folder, console=Console(quiet=True))
    steps = [record for record in read(folder / "metrics.jsonl") if record["kind"] == "grpo"]
    return steps, list(Store(folder / "trajectories.jsonl").read())


def test_a_run_with_hints_learns_from_groups_that_were_dead_without_them(tmp_path: Path) -> None:
    without, _ = run(tmp_path / "without")
    helped, stored = run(tmp_path / "with", hints=3)
    assert [step["dead_share"] for step in without] == [1.0, 1.0] and not any(step["rows"] for step in without)
    assert [step["dead_share"] for step in helped] == [0.0, 0.0] and [step["rows"] for step in helped] == [8, 8]
    assert all(step["outcomes"]["tests_pass"] == 2 for step in helped)
    # Four samples, then the first and the second hint; the third was not needed.
    assert sorted({t.key.sample for t in stored}) == [0, 1, 2, 3, 4, 5]
    assert {t.key.sample for t in stored if t.outcome is Outcome.TESTS_PASS} == {5}


def test_hints_are_refused_where_they_are_not_played() -> None:
    with pytest.raises(ValidationError, match=r"needs train\.mode = 'sync'"):
        TrainConfig.model_validate({"mode": "async", "hints": 1})
