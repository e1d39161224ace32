"""The gold patch as actions, and demonstrations made of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_stage import CHAT, FAULTY, Stage, context, make_prepared

from agent.demonstrate import demonstrate
from agent.doubles import ExactGrader
from agent.gold import gold_action, gold_actions
from agent.scripted import reader, scripted
from agent.trajectory import Outcome
from sandbox.task import TaskError


def test_the_gold_action_is_the_function_as_the_patch_leaves_it(stage: Stage) -> None:
    code = gold_action(stage.prepared.task, FAULTY)
    assert code.startswith("def clamp(") and "min(x, high)" in code


def test_a_gold_patch_beyond_the_function_is_played_with_the_editor(tmp_path: Path, stage: Stage) -> None:
    fixed = {
        "pack/core.py": FAULTY.replace("max(x, high)", "min(x, high)").replace("self.n = 0", "self.n = 1"),
        "pack/new.py": "y = 2\n",
    }
    prepared = make_prepared(tmp_path / "wide", fixed)
    with pytest.raises(TaskError, match="reaches beyond"):
        gold_action(prepared.task, FAULTY)
    assert {action.tool for action in gold_actions(prepared.task, reader(prepared.base))} == {"edit"}
    trajectory = asyncio.run(Stage(prepared, stage.backend, ExactGrader()).play("gold"))
    assert trajectory.outcome is Outcome.TESTS_PASS and trajectory.patch == prepared.task.patch


def test_an_unknown_script_is_refused_with_the_names_there_are(stage: Stage) -> None:
    with pytest.raises(TaskError, match="gold, spoiler"):
        scripted("goold", stage.prepared)


def test_demonstrations_are_the_gold_episodes_that_end_at_the_gold_tree(tmp_path: Path, stage: Stage) -> None:
    wide = make_prepared(
        tmp_path / "wide", {"pack/core.py": FAULTY.replace("n = 0", "n = 1"), "pack/new.py": "y = 2\n"}
    )
    broken = stage.prepared.task.model_copy(update={"patch": wide.task.patch.replace("self.n = 0", "self.m = 0")})
    tasks = (stage.prepared, stage.prepared.model_copy(update={"task": broken}), wide)
    config = stage.scaffold().config
    first, second = (asyncio.run(demonstrate(tasks, config, CHAT)) for _ in range(2))
    assert first == second and [t.key.prompt for t in first] == [0, 2]
    assert {t.outcome for t in first} == {Outcome.TESTS_PASS}
    assert context(first[0]).endswith("```submit\n```<|im_end|>")
    assert asyncio.run(demonstrate(tasks, config.model_copy(update={"max_tokens": 20}), CHAT)) == []
