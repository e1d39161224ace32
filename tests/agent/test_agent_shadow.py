"""Shadow grades: hidden tests of every attempt, as facts of the turns, unseen by the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from agent_stage import FAULTY, Stage, key

from agent.chat import ByteTokenizer, Chat
from agent.formats import make
from agent.policy import Policy
from agent.scaffold import Scaffold
from agent.scripted import ScriptedPolicy
from agent.tools import load
from agent.trajectory import Action, Outcome, Trajectory
from sandbox.task import Failure, Prepared, Status, Verdict

WRONG = "def clamp(x, low, high):\n    return low"
RIGHT = FAULTY.split("\n\n\n")[1].replace("max(x, high)", "min(x, high)")
SUBMIT = Action(tool="submit")


def rewrite(code: str) -> Action:
    return Action(tool="rewrite", args={"code": code})


def policy(actions: Sequence[Action]) -> Policy:
    form = make("fenced", load(("bash", "edit", "rewrite", "submit")))
    texts = [form.render(action) for action in actions]
    return ScriptedPolicy("by hand", lambda _, turn: texts[turn], Chat(ByteTokenizer()))


def play(scaffold: Scaffold, prepared: Prepared, *actions: Action, sample: int = 0) -> Trajectory:
    return asyncio.run(scaffold.play_with_retries(prepared.task, policy(actions), key(sample)))


def vectors(trajectory: Trajectory) -> list[str | None]:
    return [turn.facts.tests for turn in trajectory.turns]


def test_every_attempt_is_graded_and_nothing_else_is(stage: Stage):
    look = Action(tool="edit", args={"command": "view", "path": "pack/core.py"})
    done = play(
        stage.scaffold(shadow="on"), stage.prepared, rewrite(WRONG), look, rewrite(RIGHT), rewrite(WRONG), SUBMIT
    )
    # The fourth turn undoes the third: a tree that was seen is no new attempt.
    assert vectors(done) == ["01", None, "11", None, None]
    task = stage.prepared.task
    assert done.tests == (*task.FAIL_TO_PASS, *task.PASS_TO_PASS)
    assert done.outcome is Outcome.TESTS_FAIL and done.seal().digest == done.digest


def test_an_episode_that_never_submits_has_its_attempts_graded_too(stage: Stage):
    done = play(stage.scaffold(shadow="on", max_turns=1), stage.prepared, rewrite(RIGHT))
    assert done.outcome is Outcome.NO_SUBMIT and vectors(done) == ["11"]


def test_what_the_policy_sees_does_not_depend_on_shadow_grades(stage: Stage):
    actions = (rewrite(WRONG), rewrite(RIGHT), SUBMIT)
    on, off = (play(stage.scaffold(shadow=shadow), stage.prepared, *actions) for shadow in ("on", "off"))
    assert [turn.prompt for turn in on.turns] == [turn.prompt for turn in off.turns]
    assert [turn.observation for turn in on.turns] == [turn.observation for turn in off.turns]
    assert vectors(off) == [None, None, None] and off.tests == ()


class Spoken:
    """A grader that says this of every patch that is not empty."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = [*verdicts]

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        if not patch:
            return self.verdicts[-1]
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]


def test_an_attempt_that_infrastructure_cannot_grade_masks_the_episode(stage: Stage):
    scaffold = stage.scaffold(shadow="on")
    scaffold.grader = Spoken(Verdict(status=Status.INFRA, detail="the grading sandbox died"))
    done = play(scaffold, stage.prepared, rewrite(WRONG), SUBMIT)
    assert done.failure is Failure.GRADER and done.outcome is Outcome.INFRA and "could not be graded" in done.detail


def test_an_attempt_that_breaks_its_own_grading_passes_nothing(stage: Stage):
    scaffold = stage.scaffold(shadow="on", max_turns=1)
    broken, fine = Verdict(status=Status.INFRA, detail="killed"), Verdict(status=Status.FAILED)
    scaffold.grader = Spoken(broken, broken, broken, fine)
    done = play(scaffold, stage.prepared, rewrite(WRONG))
    assert done.failure is None and vectors(done) == ["00"]


@pytest.mark.parametrize("change", [{"status": Status.TAMPERED}, {"flags": ("imports _pytest",)}])
def test_an_attempt_that_is_suspected_of_tampering_passes_nothing(stage: Stage, change: dict[str, object]):
    task = stage.prepared.task
    passed = dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS), True)
    scaffold = stage.scaffold(shadow="on", max_turns=1)
    scaffold.grader = Spoken(Verdict(status=Status.RESOLVED, results=passed).model_copy(update=change))
    assert vectors(play(scaffold, stage.prepared, rewrite(WRONG))) == ["00"]
