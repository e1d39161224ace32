"""The specification's test vectors, to 1e-4."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rewards.aggregate.verpo import Verpo
from rewards.config import RewardConfig
from rewards.kernels import density, passes
from rewards.matrix import Matrix
from rewards.recipe import Recipe

VERPO = tomllib.loads((Path(__file__).parents[2] / "configs" / "rewards" / "verpo.toml").read_text())


def explain(rows: list[list[str]], outcomes: list[str], gamma: float):
    config = RewardConfig.model_validate(VERPO | {"outcome": VERPO["outcome"] | {"discount": gamma}})
    trajectories: list[dict[str, Any]] = [
        {"outcome": outcome, "turns": [{"tests": tests} for tests in turns]}
        for turns, outcome in zip(rows, outcomes, strict=True)
    ]
    return Recipe(config).explain(Matrix.model_validate({"trajectories": trajectories}).group())


def flat(rows: Any) -> list[float]:
    return [value for row in rows for value in row]


def test_vector_1_four_single_turn_attempts():
    account = explain([["111111"], ["111110"], ["111000"], ["111100"]], ["tests_pass", *["tests_fail"] * 3], 1.0)
    counts = passes(account.group.grades.rows)
    assert [count / 4 for count in counts] == [1, 1, 1, 0.75, 0.5, 0.25]
    crowd = density({4: 3, 3: 1, 2: 1, 1: 1}, 4, 0.1)
    assert [crowd[k] for k in (4, 3, 2, 1)] == pytest.approx([3.0439, 1.1758, 1.0879, 1.0439], abs=1e-4)
    weights = Verpo().weights(counts, 4)
    assert [weights[k] for k in (4, 3, 2, 1)] == pytest.approx([0.0445, 0.1898, 0.3382, 0.5810], abs=1e-4)
    assert flat(account.turn_rewards["tests"]) == pytest.approx([1.2423, 0.6613, 0.1334, 0.3232], abs=1e-4)
    parts = account.credit.turn_parts["tests"]
    assert flat(parts) == pytest.approx([0.6523, 0.0713, -0.4567, -0.2669], abs=1e-4)
    assert flat(account.credit.turns) == pytest.approx([1.4023, -0.1787, -0.7067, -0.5169], abs=1e-4)


def test_vector_2_a_group_that_fails_altogether_still_teaches():
    account = explain([["111100"], ["111110"], ["110000"], ["111100"]], ["tests_fail"] * 4, 1.0)
    assert account.credit.trajectory == (0.0,) * 4 and account.credit.degenerate
    assert flat(account.credit.turns) == pytest.approx([-0.0918, 0.4892, -0.3056, -0.0918], abs=1e-4)


def test_vector_3_two_trajectories_of_several_turns():
    account = explain([["1100", "1111"], ["1000", "1100", "1110"]], ["tests_pass", "tests_fail"], 0.9)
    rates = [count / 5 for count in passes(account.group.grades.rows)]
    assert rates == [1, 0.8, 0.4, 0.2]
    assert flat(account.turn_rewards["tests"]) == pytest.approx([0.2970, 1.2830, 0.1192, 0.2970, 0.6926], abs=1e-4)
    assert account.credit.returns == pytest.approx((0.81, 0.0), abs=1e-12)
    assert flat(account.credit.turns) == pytest.approx([0.1642, 1.1503, -0.8236, -0.6458, -0.2501], abs=1e-4)


def test_pr_v1_gives_the_equation_and_not_the_papers_second_example():
    turn = {"action": "edit", "safe": True, "tree": "a", "diagnostics": 2, "confidence": 0.94}
    assert process_marks({"kind": "pr_v1"}, 5, turn) == pytest.approx([1.894], abs=1e-4)
    unsafe = {"safe": False, "tree": "a", "diagnostics": 7, "confidence": 0.62}
    assert process_marks({"kind": "pr_v1"}, 7, unsafe) == pytest.approx([-0.038], abs=1e-4)


def process_marks(source: dict[str, Any], base: int, *turns: dict[str, Any]) -> list[float]:
    config = RewardConfig.model_validate({"turns": [{"source": source}]})
    group = {"trajectories": [{"outcome": "tests_fail", "diagnostics": base, "turns": turns}]}
    account = Recipe(config).explain(Matrix.model_validate(group).group())
    return [value for value in account.turn_rewards[source["kind"]][0] if value is not None]
