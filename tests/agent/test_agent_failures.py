"""Failures outside the policy: fresh sandboxes, replayed actions, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from agent_stage import CHAT, Stage, key, play, says

from agent.doubles import DyingBackend, ExactGrader, FailingPolicy
from agent.policy import Sampled
from agent.scripted import ScriptedPolicy
from agent.trajectory import End, Key, Outcome
from sandbox.task import Failure, Prepared, Status, TaskError, Verdict

TWO_STEPS = (
    '```edit\n{"command": "create", "path": "a.txt", "file_text": "a"}\n```',
    "```bash\ntrue\n```",
    '```edit\n{"command": "create", "path": "b.txt", "file_text": "b"}\n```',
    "```submit\n```",
)


@pytest.mark.parametrize(
    ("verb", "call"), [("open", 1), ("manifest", 1), ("read", 1), ("edit", 2), ("run", 1), ("manifest", 3)]
)
def test_a_sandbox_that_dies_once_is_replaced_and_the_sampled_tokens_are_kept(
    stage: Stage, verb: str, call: int
) -> None:
    calm = asyncio.run(play(stage, says(*TWO_STEPS)))
    dying = DyingBackend(stage.backend, verb, call)
    policy = FailingPolicy(says(*TWO_STEPS), times=0)
    scaffold = stage.scaffold(dying)
    trajectory = asyncio.run(scaffold.play_with_retries(stage.prepared.task, policy, key()))
    assert trajectory == calm and dying.count == 2 and not dying.live
    assert policy.samples == len(TWO_STEPS)


@pytest.mark.parametrize(("verb", "call"), [("edit", 2), ("run", 1)])
def test_a_failure_that_the_same_actions_cause_again_is_the_policys_own(stage: Stage, verb: str, call: int) -> None:
    dying = DyingBackend(stage.backend, verb, call, opened=None)
    trajectory = asyncio.run(stage.scaffold(dying).play_with_retries(stage.prepared.task, says(*TWO_STEPS), key()))
    assert trajectory.end is End.POLICY and trajectory.failure is Failure.POLICY
    assert trajectory.outcome is Outcome.NO_SUBMIT and dying.count == 2
    assert trajectory.turns[-1].facts.tree is None and trajectory.turns[-1].action is not None


def test_a_backend_that_never_opens_is_infrastructure_after_the_retries(stage: Stage) -> None:
    dying = DyingBackend(stage.backend, "open", opened=None)
    trajectory = asyncio.run(stage.scaffold(dying).play_with_retries(stage.prepared.task, says("x"), key()))
    assert trajectory.outcome is Outcome.INFRA and trajectory.failure is Failure.SANDBOX and dying.count == 3
    assert "did not start" in trajectory.detail and not trajectory.turns


def test_an_engine_that_fails_is_asked_again_in_a_fresh_sandbox_and_never_blamed_on_the_policy(stage: Stage) -> None:
    calm = asyncio.run(play(stage, says(*TWO_STEPS)))
    assert asyncio.run(play(stage, FailingPolicy(says(*TWO_STEPS), turn=2, times=2))) == calm
    trajectory = asyncio.run(play(stage, FailingPolicy(says(*TWO_STEPS), turn=2, times=9)))
    assert trajectory.outcome is Outcome.INFRA and trajectory.failure is Failure.INFRA and len(trajectory.turns) == 2


class BrokenGrader(ExactGrader):
    """The first gradings of a patch end by these causes; those of the untouched tree work or do not."""

    def __init__(self, causes: Sequence[str], control: bool) -> None:
        super().__init__()
        self.causes, self.control = [*causes], control

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        if patch == "" and self.control:
            return Verdict(status=Status.FAILED)
        if patch == "" or self.causes:
            return Verdict(status=Status.INFRA, detail=self.causes.pop(0) if patch else "no engine")
        return await super().__call__(prepared, patch)


OOM, GONE = "out of memory", "the engine does not answer"


@pytest.mark.parametrize(
    ("causes", "control", "outcome", "failure"),
    [
        ((GONE,), False, Outcome.TESTS_PASS, None),
        ((GONE, GONE), False, Outcome.TESTS_PASS, None),
        ((OOM, OOM), True, Outcome.TESTS_PASS, None),
        ((GONE, GONE, GONE), False, Outcome.INFRA, None),
        ((OOM, GONE, OOM), True, Outcome.INFRA, None),
        ((OOM, OOM, OOM), True, Outcome.TESTS_FAIL, Failure.POLICY),
    ],
)
def test_only_a_patch_that_breaks_its_grading_each_time_by_the_same_cause_has_failed(
    stage: Stage, causes: Sequence[str], control: bool, outcome: Outcome, failure: Failure | None
) -> None:
    broken = Stage(stage.prepared, stage.backend, BrokenGrader(causes, control))
    trajectory = asyncio.run(broken.play("gold"))
    assert trajectory.outcome is outcome and trajectory.failure is failure
    assert trajectory.digest == trajectory.seal().digest


def test_a_cancelled_episode_leaves_no_sandbox(stage: Stage) -> None:
    class Stuck(ScriptedPolicy):
        async def sample(self, context: object, key: Key, turn: int, max_tokens: int) -> Sampled:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def cancel() -> set[int]:
        playing = asyncio.create_task(
            stage.scaffold(watched).play(stage.prepared.task, Stuck("stuck", lambda _, turn: "", CHAT), key())
        )
        await asked.wait()
        assert watched.live == {0}
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        return watched.live

    asked, watched = asyncio.Event(), DyingBackend(stage.backend, verb="")
    assert asyncio.run(cancel()) == set()


def test_a_task_whose_folders_give_the_answer_away_is_not_played(stage: Stage) -> None:
    leaky = stage.prepared.task.model_copy(update={"hidden": ("pack/core.py",)})
    scaffold = Stage(stage.prepared.model_copy(update={"task": leaky}), stage.backend, ExactGrader()).scaffold()
    with pytest.raises(TaskError, match=r"the hidden test pack/core\.py lies in the base tree"):
        asyncio.run(scaffold.play(leaky, says("x"), key()))
