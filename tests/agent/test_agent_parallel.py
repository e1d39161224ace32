"""Episodes in formats other than the fenced one, and several calls in one turn."""

from __future__ import annotations

import asyncio

import pytest
from agent_stage import Stage, play, says

from agent import tools
from agent.formats import FORMATS, make
from agent.trajectory import Action, End, Outcome

NAMES = ("bash", "edit", "rewrite", "submit")
HERMES = make("hermes", tools.load(NAMES))
SUBMIT = Action(tool="submit")


def create(path: str) -> Action:
    return Action(tool="edit", args={"command": "create", "path": path, "file_text": "x = 1\n"})


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", ["compact", "full"])
def test_the_gold_solver_resolves_the_task_in_every_format(stage: Stage, form: str, prompt: str) -> None:
    trajectory = asyncio.run(stage.play("gold", format=form, prompt=prompt, max_tokens=4000))
    assert trajectory.outcome is Outcome.TESTS_PASS and len(trajectory.turns) == 2


def test_calls_of_one_turn_run_in_order_and_share_its_facts(stage: Stage) -> None:
    view = Action(tool="edit", args={"command": "view", "path": "absent.py"})
    first = HERMES.render(create("a.py"), view, create("b.py"))
    trajectory = asyncio.run(play(stage, says(first, HERMES.render(SUBMIT)), format="hermes"))
    turn = trajectory.turns[0]
    assert [action.tool for action in (turn.action, *turn.more) if action] == ["edit", "edit", "edit"]
    assert turn.facts.changed and turn.facts.attempt and turn.facts.format_ok and not turn.facts.tool_ok
    assert turn.observation.count("<tool_response>") == 3 and "error" in turn.observation
    assert "a.py" in trajectory.patch and "b.py" in trajectory.patch


def test_a_submission_among_calls_ends_the_episode_after_those_before_it(stage: Stage) -> None:
    answer = HERMES.render(create("a.py"), SUBMIT, create("never.py"))
    trajectory = asyncio.run(play(stage, says(answer), format="hermes"))
    (turn,) = trajectory.turns
    assert trajectory.end is End.SUBMITTED and turn.facts.attempt and turn.facts.tool_ok
    assert "a.py" in trajectory.patch and "never.py" not in trajectory.patch
