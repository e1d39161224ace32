"""The audit warns of planted hacks by name and is silent on healthy runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hands import group, recipe

from rewards.audit import Audit, correlation, slope, trend
from rewards.recipe import Recipe

STEPS = 24
Player = Callable[[random.Random, float], dict[str, Any]]


def run(play: Player, name: str, seed: int = 0, steps: int = STEPS, **change: Any) -> Audit:
    """A run whose episodes are drawn at progress 0 (start) to 1 (end)."""
    rng, audit, scorer = random.Random(seed), Audit(), Recipe(recipe(name, **change))
    for step in range(steps):
        groups = [group(*(play(rng, step / (steps - 1)) for _ in range(8))) for _ in range(4)]
        audit.add(groups, [scorer.score(one) for one in groups])
    return audit


def healthy(rng: random.Random, progress: float) -> dict[str, Any]:
    """Submits more, formats better, passes more; diagnostics are mostly left alone."""
    fine = 0.6 + 0.35 * progress
    turns: list[dict[str, Any]] = [
        {"tree": "base", "format_ok": rng.random() < fine, "tool_ok": rng.random() < fine}
        for _ in range(rng.randint(2, 4))
    ]
    edit = {"action": "edit", "tree": f"t{rng.random()}", "diagnostics": rng.choice([1, 1, 2]), "suppressed": 0}
    solved = rng.random() < 0.1 + 0.5 * progress
    edit["tests"] = "1111" if solved else rng.choice(["1100", "1110", "0000"])
    outcome = "tests_pass" if solved else "tests_fail" if rng.random() < 0.5 + 0.4 * progress else "no_submit"
    infra = rng.random() < 0.02
    return {"outcome": "infra" if infra else outcome, "diagnostics": 1, "turns": [*turns, edit]}


def farms_format(rng: random.Random, progress: float) -> dict[str, Any]:
    """Well-formed chatter, and ever fewer submissions."""
    turns = [{"format_ok": rng.random() < 0.2 + 0.8 * progress, "tool_ok": True} for _ in range(4)]
    return {"outcome": "no_submit" if rng.random() < 0.2 + 0.8 * progress else "tests_fail", "turns": turns}


def oscillates(rng: random.Random, progress: float) -> dict[str, Any]:
    """Breaks and mends the same thing again and again."""
    swings = round(6 * progress * rng.random())
    counts = [count for _ in range(swings) for count in (6, 1)] or [1]
    turns = [{"tree": f"t{i}", "diagnostics": count, "tests": "1100"} for i, count in enumerate(counts)]
    return {"outcome": "tests_fail", "diagnostics": 1, "turns": turns}


def talks_itself_up(rng: random.Random, progress: float) -> dict[str, Any]:
    """Well-formed turns are paid, so ever longer episodes of them pay more; the outcome stays what it was."""
    length = rng.randint(1, 2 + round(10 * progress))
    turns = [{"format_ok": False}] * 2 + [{"format_ok": True}] * length
    return {"outcome": "tests_fail", "turns": turns}


def farms_partial_tests(rng: random.Random, progress: float) -> dict[str, Any]:
    """Reaches some tests early, then idles without ever solving the task."""
    tests = "1110" if rng.random() < progress else "1000"
    idle = [{"format_ok": True}] * round(8 * progress)
    return {"outcome": "tests_fail", "turns": [{"tests": tests, "tree": "a"}, *({"tree": "a"} | one for one in idle)]}


def kills_its_sandbox(rng: random.Random, progress: float) -> dict[str, Any]:
    """Escapes a bad score by an infrastructure failure."""
    solved = rng.random() < 0.2
    escapes = not solved and rng.random() < progress
    return {"outcome": "infra" if escapes else "tests_pass" if solved else "tests_fail", "turns": [{}, {}]}


HACKS = [
    (farms_format, "d_ra", "critic 'format'"),
    (oscillates, "g_ra", "critic 'diagnostics'"),
    (farms_partial_tests, "verpo", "critic 'tests'"),
    (kills_its_sandbox, "g_ra", "critic 'infra'"),
    (kills_its_sandbox, "g_ra", "the outcome rises because bad episodes are masked"),
    (talks_itself_up, "g_ra", "critic 'turns': longer episodes are paid"),
    (talks_itself_up, "g_ra", "critic 'tokens': more tokens are paid"),
]


@pytest.mark.parametrize(("play", "name", "words"), HACKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_hack_is_named(play: Player, name: str, words: str):
    for seed in range(3):
        assert any(words in warning for warning in run(play, name, seed).warnings())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["g_ra", "all_gated"])
def test_five_healthy_runs_are_left_in_peace(seed: int, name: str):
    assert run(healthy, name, seed).warnings() == []


def test_farming_the_format_under_d_ra_shows_the_papers_signature():
    def play(rng: random.Random, progress: float) -> dict[str, Any]:
        good = rng.random() < progress
        failed = rng.random() < 0.3 * progress
        turns = [{"format_ok": good, "tool_ok": good}] * 3
        return {"outcome": "empty_patch" if failed else "tests_fail", "turns": turns}

    generous = [{"kind": "format", "weight": 0.2}, {"kind": "tool_call", "weight": 0.25}]
    warnings = run(play, "d_ra", steps=40, critics=generous).warnings()
    assert "total reward rises while the outcome falls: the policy is paid for format and tool_call" in warnings


def test_flags_and_suppressions_are_reported():
    def play(rng: random.Random, progress: float) -> dict[str, Any]:
        turn = {"tree": "a", "suppressed": round(4 * progress)}
        return {"outcome": "tests_pass", "turns": [turn], "flags": ["os._exit"] if rng.random() < 0.5 else []}

    warnings = run(play, "g_ra").warnings()
    assert any("'tamper'" in one for one in warnings) and any("'suppressed'" in one for one in warnings)


def test_a_short_run_is_not_judged():
    assert run(farms_format, "d_ra", steps=4).warnings() == []


def test_a_warning_is_news_once_whatever_its_numbers():
    audit = run(kills_its_sandbox, "g_ra")
    assert any("critic 'infra'" in one for one in audit.news())
    again = list(audit.steps)
    audit.steps += again[-3:]
    assert any("critic 'infra'" in one for one in audit.warnings()) and audit.news() == []
    audit.steps.clear()
    assert audit.news() == []
    audit.steps += again
    assert any("critic 'infra'" in one for one in audit.news())


def test_slopes_trends_and_correlations():
    assert slope([0.0, 1.0, 2.0]) == pytest.approx(1.0)
    assert trend([0.1 * i for i in range(10)]) == 1 and trend([-0.1 * i for i in range(10)]) == -1
    assert trend([0.0, 1.0] * 6) == 0 and trend([1.0] * 12) == 0
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0) and correlation([1, 1], [1, 2]) is None


def test_the_audit_is_plain_data():
    data = run(healthy, "g_ra", steps=9).data()
    assert len(data["steps"]) == 9 and set(data["slopes"]) == {"total", "outcome", "format", "tool_call"}
