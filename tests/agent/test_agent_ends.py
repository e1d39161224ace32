"""Every end of an episode has its reason; budgets hold; what a tool refuses is an observation."""

from __future__ import annotations

import asyncio

import pytest
from agent_stage import CHAT, Stage, play, says

from agent.doubles import NoBash
from agent.policy import Sampled
from agent.scripted import ScriptedPolicy
from agent.trajectory import End, Key
from sandbox.task import TaskError


def test_turns_end_the_episode(stage: Stage) -> None:
    trajectory = asyncio.run(stage.play("idler", max_turns=3))
    assert trajectory.end is End.TURNS and len(trajectory.turns) == 3


def test_a_full_context_ends_the_episode_and_is_never_exceeded(stage: Stage) -> None:
    trajectory = asyncio.run(stage.play("idler", max_turns=100, max_context=500))
    (segment,) = trajectory.segments()
    assert trajectory.end is End.TOKENS and len(segment.ids) <= 500


def test_repeated_malformed_answers_end_the_episode_and_each_is_a_fact(stage: Stage) -> None:
    trajectory = asyncio.run(play(stage, says("hm"), format_errors=2))
    assert trajectory.end is End.FORMAT and len(trajectory.turns) == 2
    assert not any(turn.facts.format_ok or turn.facts.tool_ok for turn in trajectory.turns)
    assert "no action found" in trajectory.turns[0].observation


def test_a_well_formed_answer_starts_the_count_of_malformed_ones_again(stage: Stage) -> None:
    answers = ("hm", "```bash\nls\n```", "hm", "```submit\n```")
    trajectory = asyncio.run(play(stage, says(*answers), format_errors=2))
    assert trajectory.end is End.SUBMITTED
    assert [turn.facts.format_ok for turn in trajectory.turns] == [False, True, False, True]


def test_a_turn_cut_by_length_is_closed_in_the_context_and_does_nothing(stage: Stage) -> None:
    trajectory = asyncio.run(play(stage, says("```python\ndef clamp(x, low, high):\n    return 1\n```"), max_tokens=24))
    first, second = trajectory.turns[:2]
    assert first.cut and not first.facts.format_ok and "cut" in first.observation
    assert second.prompt[0] == CHAT.tokenizer.im_end
    assert not trajectory.patch


def test_time_ends_the_episode_between_turns_and_while_sampling(stage: Stage) -> None:
    class Slow(ScriptedPolicy):
        async def sample(self, context: object, key: Key, turn: int, max_tokens: int) -> Sampled:
            await asyncio.sleep(3600)
            raise AssertionError

    slow = Slow("slow", lambda _, turn: "", CHAT)
    trajectory = asyncio.run(play(stage, slow, wall_s=0.05))
    assert trajectory.end is End.TIME and trajectory.failure is None


@pytest.mark.parametrize(
    ("answer", "observation"),
    [
        ("```python\ndef clamp(x): return (\n```", "error: the block is not valid Python"),
        ("```python\ndef other(x): return 1\n```", "error: the block defines other, not clamp."),
        ("```python absent.py::f\ndef f(): pass\n```", "error: there is no file absent.py."),
        ("```python ../../etc/passwd::f\ndef f(): pass\n```", "error: ../../etc/passwd: "),
        ("```bash\n \n```", "error: the command is empty."),
        ('```edit\n{"command": "fly", "path": "a"}\n```', "error: edit: command: "),
        ('```edit\n{"command": "view", "path": "absent.py"}\n```', "error: "),
        ('```edit\n{"command": "view", "path": "a", "lines": 3}\n```', "error: edit: lines: "),
        ('```submit\n{"why": "done"}\n```', "error: submit: why: "),
    ],
)
def test_what_a_tool_refuses_is_an_observation_and_a_fact(stage: Stage, answer: str, observation: str) -> None:
    turn = asyncio.run(play(stage, says(answer), max_turns=1)).turns[0]
    assert turn.observation.startswith(observation)
    assert turn.facts.format_ok and not turn.facts.tool_ok and not turn.facts.changed


def test_long_observations_are_cut(stage: Stage) -> None:
    view = '```edit\n{"command": "view", "path": "pack/core.py"}\n```'
    turn = asyncio.run(play(stage, says(view), max_turns=1, observation_chars=80)).turns[0]
    assert len(turn.observation) < 130 and "characters cut]" in turn.observation


CUT = "```bash\ntrue\n```\n" + "and so on " * 50


@pytest.mark.parametrize(
    ("rule", "acts", "trained"), [("keep", True, True), ("mask", True, False), ("penalise", False, True)]
)
def test_a_turn_cut_by_length_comes_to_what_the_setting_says(
    stage: Stage, rule: str, acts: bool, trained: bool
) -> None:
    trajectory = asyncio.run(play(stage, says(CUT), max_tokens=60, max_turns=1, cut_turns=rule))
    (turn,), (segment,) = trajectory.turns, trajectory.segments()
    assert turn.cut and turn.facts.format_ok is acts and (turn.action is not None) is acts
    assert any(segment.mask) is trained and any(i >= 0 for i in segment.turn) is trained
    assert segment.ids == turn.prompt + turn.sampled


def test_a_turn_that_is_masked_gives_no_row_and_the_others_keep_their_credit(stage: Stage) -> None:
    from rewards.credit import Credit
    from trainers.learning.rows import rows

    policies = (says(CUT), says(CUT, "```submit\n```"))
    group = [asyncio.run(play(stage, p, max_tokens=60, max_turns=2, cut_turns="mask")) for p in policies]
    turns = ((1.0, 1.0), (-1.0, -1.0))
    credit = Credit(returns=(0.0, 0.0), valid=(True, True), trajectory=(1.0, -1.0), turns=turns)
    (row,) = rows(group, credit)
    assert {a for a, mask in zip(row.advantages, row.mask, strict=True) if mask} == {-1.0}
    assert sum(row.mask) == len(group[1].turns[1].sampled)


def test_a_task_whose_image_has_no_bash_is_refused_at_its_start_with_the_way_out(stage: Stage) -> None:
    bare = NoBash(stage.backend)
    stage.prepared = stage.prepared.model_copy(update={"image": "plain:1"})
    with pytest.raises(TaskError, match=r"the image plain:1 of pack-clamp has no bash: add it .* out of agent\.tools"):
        asyncio.run(stage.play("gold", backend=bare))
    assert asyncio.run(stage.play("gold", backend=bare, tools=("rewrite", "submit"))).end is End.SUBMITTED
