"""Trajectories as data: segments hold each sampled token once, seals name the content, outcomes have one order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import End, Facts, Key, Outcome, Trajectory, Turn
from sandbox.task import Failure, Status, Verdict

IDS = st.lists(st.integers(0, 999), max_size=4).map(tuple)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    sampled = draw(IDS)
    logprobs = draw(st.tuples(*(st.floats(-9, 0) for _ in sampled)))
    facts = Facts(format_ok=True, tool_ok=True)
    return Turn(prompt=draw(IDS), sampled=sampled, logprobs=logprobs, text="", fork=draw(st.booleans()), facts=facts)


def make(*played: Turn, **fields: object) -> Trajectory:
    key = Key(seed=0, step=0, prompt=0, sample=0)
    base = {"task": "t", "key": key, "policy": "p", "turns": played, "end": End.SUBMITTED}
    return Trajectory.model_validate({**base, **fields})


@given(st.lists(turns(), max_size=6))
def test_segments_hold_every_token_in_order_and_each_sampled_one_once(played: list[Turn]) -> None:
    segments = list(make(*played).segments())
    ids = [i for turn in played for i in (*turn.prompt, *turn.sampled)]
    assert [i for segment in segments for i in segment.ids] == ids
    owners = [t for segment in segments for t, mask in zip(segment.turn, segment.mask, strict=True) if mask]
    assert owners == [index for index, turn in enumerate(played) for _ in turn.sampled]
    logprobs = [p for segment in segments for p, mask in zip(segment.logprobs, segment.mask, strict=True) if mask]
    assert logprobs == [p for turn in played for p in turn.logprobs]
    assert len(segments) == len(played[:1]) + sum(turn.fork for turn in played[1:])


@given(st.lists(turns(), max_size=3))
def test_a_seal_names_the_content_and_sealing_again_changes_nothing(played: list[Turn]) -> None:
    sealed = make(*played).seal()
    assert sealed.seal() == sealed
    assert sealed.model_copy(update={"patch": "x"}).seal().digest != sealed.digest
    assert Trajectory.model_validate_json(sealed.model_dump_json()).seal() == sealed


def verdict(status: Status) -> Verdict:
    return Verdict(status=status)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"patch": "d", "verdict": verdict(Status.RESOLVED)}, Outcome.TESTS_PASS),
        ({"patch": "d", "verdict": verdict(Status.FAILED)}, Outcome.TESTS_FAIL),
        ({"patch": "d", "verdict": verdict(Status.TAMPERED)}, Outcome.TESTS_FAIL),
        ({"patch": "d", "verdict": verdict(Status.TIMEOUT)}, Outcome.TESTS_FAIL),
        ({"patch": "d", "verdict": verdict(Status.INFRA)}, Outcome.INFRA),
        ({"patch": "d"}, Outcome.INFRA),
        ({"patch": ""}, Outcome.EMPTY_PATCH),
        ({"patch": "d", "end": End.TURNS}, Outcome.NO_SUBMIT),
        ({"patch": "d", "end": End.POLICY, "failure": Failure.POLICY}, Outcome.NO_SUBMIT),
        ({"end": End.INFRA, "failure": Failure.SANDBOX}, Outcome.INFRA),
        ({"patch": "d", "failure": Failure.GRADER}, Outcome.INFRA),
    ],
)
def test_the_outcome_follows_from_end_patch_and_verdict(fields: dict[str, object], outcome: Outcome) -> None:
    assert make(**fields).outcome is outcome
