"""The end of the window: history that is rewritten forks the trajectory, and no sampled token is trained twice."""

from __future__ import annotations

import asyncio

import pytest
from agent_stage import CHAT, Stage, Witness, key, says, spelled
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.context import GONE, SUMMARISE, dropped
from agent.doubles import DyingBackend, FailingPolicy
from agent.policy import Message
from agent.scripted import ScriptedPolicy
from agent.text import cap, fit
from agent.trajectory import End, Facts, Trajectory, Turn

VIEW = '```edit\n{"command": "view", "path": "pack/core.py"}\n```'
TIGHT = {"max_context": 1600, "max_tokens": 200, "max_turns": 12}


def witnessed(stage: Stage, policy: ScriptedPolicy, **config: object) -> tuple[Trajectory, list[tuple[int, ...]]]:
    witness = Witness(policy, [])
    scaffold = stage.scaffold(**{**TIGHT, **config})
    return asyncio.run(scaffold.play(stage.prepared.task, witness, key())), witness.shown


def check(trajectory: Trajectory, shown: list[tuple[int, ...]], limit: int) -> None:
    """Every segment is what the policy saw, and the segments together hold each sampled token once."""
    seen: tuple[int, ...] = ()
    for turn, context in zip(trajectory.turns, shown, strict=True):
        assert context == (turn.prompt if turn.fork else seen + turn.prompt)
        seen = context + turn.sampled
        assert len(seen) <= limit
    sampled = [i for turn in trajectory.turns for i in turn.sampled]
    segments = list(trajectory.segments())
    assert [i for s in segments for i, mask in zip(s.ids, s.mask, strict=True) if mask] == sampled
    assert len(segments) == 1 + sum(turn.fork for turn in trajectory.turns)


def test_a_full_window_drops_old_observations_and_goes_on_in_a_fork(stage: Stage) -> None:
    trajectory, shown = witnessed(stage, says(VIEW), overflow="drop", max_turns=8)
    check(trajectory, shown, 1600)
    assert trajectory.end is End.TURNS and any(turn.fork for turn in trajectory.turns)
    fork = spelled(next(turn.prompt for turn in trajectory.turns if turn.fork))
    assert GONE in fork and "class Counter" in fork  # old observations went, the last one stayed
    assert fork.startswith(spelled(trajectory.turns[0].prompt))


def test_a_full_window_is_summed_up_by_the_policy_in_a_turn_of_its_own(stage: Stage) -> None:
    def answer(_: object, turn: int) -> str:
        return "I looked at the file." if turn in summed else VIEW

    summed: set[int] = set()
    for _ in range(4):  # where the summaries fall depends on the lengths: found by playing
        trajectory, shown = witnessed(stage, ScriptedPolicy("sums", answer, CHAT), overflow="summarise")
        found = {i for i, turn in enumerate(trajectory.turns) if turn.action == SUMMARISE}
        if found == summed:
            break
        summed = found
    assert found == summed and found
    check(trajectory, shown, 1600)
    for index in found:
        request, following = spelled(trajectory.turns[index].prompt), trajectory.turns[index + 1]
        assert "sum up" in request and following.fork
        assert "I looked at the file." in spelled(following.prompt) and "class Counter" in spelled(following.prompt)
        assert trajectory.turns[index].facts.tree == trajectory.base_tree


def test_stopping_is_the_default_and_never_forks(stage: Stage) -> None:
    trajectory, shown = witnessed(stage, says(VIEW))
    check(trajectory, shown, 1600)
    assert trajectory.end is End.TOKENS and not any(turn.fork for turn in trajectory.turns)


@pytest.mark.parametrize("overflow", ["drop", "summarise"])
@pytest.mark.parametrize("call", [1, 3, 5, 7])
def test_forks_are_replayed_as_they_were(stage: Stage, overflow: str, call: int) -> None:
    scaffold = stage.scaffold(**TIGHT, overflow=overflow)
    calm = asyncio.run(scaffold.play_with_retries(stage.prepared.task, says(VIEW), key()))
    assert any(turn.fork for turn in calm.turns)
    dying = stage.scaffold(DyingBackend(stage.backend, "edit", call), **TIGHT, overflow=overflow)
    assert asyncio.run(dying.play_with_retries(stage.prepared.task, says(VIEW), key())) == calm


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("overflow", ["drop", "summarise"])
def test_an_engine_that_fails_at_any_turn_changes_nothing(stage: Stage, overflow: str, turn: int) -> None:
    scaffold = stage.scaffold(**TIGHT, overflow=overflow)
    calm = asyncio.run(scaffold.play_with_retries(stage.prepared.task, says(VIEW), key()))
    failing = FailingPolicy(says(VIEW), turn=turn)
    assert asyncio.run(scaffold.play_with_retries(stage.prepared.task, failing, key())) == calm


def test_an_observation_fits_its_token_budget(stage: Stage) -> None:
    trajectory, _ = witnessed(stage, says(VIEW), observation_tokens=64, max_turns=2)
    text = trajectory.turns[0].observation
    assert len(CHAT.tokenizer.encode(text)) <= 64 and "characters cut]" in text


TURNS = st.lists(st.tuples(st.text(max_size=12), st.text(max_size=300), st.booleans()), min_size=1, max_size=8)


@given(TURNS, st.integers(100, 2000), st.integers(1, 300))
@settings(max_examples=200)
def test_dropping_keeps_every_sampled_token_and_the_last_observation(
    said: list[tuple[str, str, bool]], limit: int, wanted: int
) -> None:
    policy = says("x")
    opening = policy.open([Message(role="user", text="task")])
    facts = Facts(format_ok=True, tool_ok=True)
    turns = [
        Turn(prompt=(), sampled=CHAT.answer(a), logprobs=(), text=a, cut=cut, observation=b, facts=facts)
        for a, b, cut in said
    ]
    whole = dropped(policy, opening, turns, 10**9, wanted)
    short = dropped(policy, opening, turns, limit, wanted)
    assert whole[: len(opening)] == short[: len(opening)] == opening and len(short) <= len(whole)
    last = policy.reply([Message(role="user", text=turns[-1].observation)], turns[-1].cut)
    assert short[-len(last) :] == last
    at = len(opening)
    for turn in turns:
        assert short[at : at + len(turn.sampled)] == turn.sampled
        kept = policy.reply([Message(role="user", text=turn.observation)], turn.cut)
        stub = policy.reply([Message(role="user", text=GONE)], turn.cut)
        at += len(turn.sampled)
        at += len(kept) if short[at : at + len(kept)] == kept else len(stub)
    assert at == len(short)


@given(st.text(max_size=400), st.integers(16, 200))
@settings(max_examples=200)
def test_what_is_fitted_is_within_its_budget_or_gives_up_its_text(text: str, budget: int) -> None:
    def count(one: str) -> int:
        return len(one.encode())

    short = fit(text, budget, count)
    assert count(short) <= budget or short == f"[{len(text)} characters cut]" or short == cap(text, 0)
    assert short == text if count(text) <= budget else "characters cut]" in short
