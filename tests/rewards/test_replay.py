"""Two recipes over stored groups, and a group scored by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
from hands import group, recipe
from pydantic import ValidationError

from rewards.audit import Audit
from rewards.errors import RewardError
from rewards.matrix import score_matrix
from rewards.recipe import Recipe
from rewards.replay import KEPT, by_step, compare

MATRIX: dict[str, Any] = {
    "trajectories": [
        {"outcome": "tests_fail", "turns": [{"tests": "1100"}, {"tests": "1111", "tree": "b"}]},
        {"outcome": "no_submit", "turns": [{"tests": "1000"}]},
        {"outcome": "infra", "turns": [{}]},
    ],
    "f2p": [3],
    "p2p": [0, 1],
}


def stored(step: int, *outcomes: str) -> list[Any]:
    tests = ("1100", "1110", "1000", "1111")
    made = group(*({"outcome": o, "turns": [{"tests": t}]} for o, t in zip(outcomes, tests, strict=False)))
    return [one.model_copy(update={"key": one.key.model_copy(update={"step": step})}) for one in made]


def test_the_audit_of_a_replay_sees_the_steps_of_training_and_no_evaluation():
    runs = [stored(step, *outcomes) for step in range(9) for outcomes in [("tests_fail", "tests_pass")] * 2]
    evaluated = stored(-1, "no_submit", "no_submit")
    assert [len(step) for step in by_step([*runs, evaluated, evaluated])] == [2] * 9 + [1, 1]
    scorer, own = Recipe(recipe("g_ra")), Audit()
    found = compare([*runs, evaluated], scorer, Recipe(recipe("verpo")))
    for step in range(9):
        groups = runs[2 * step : 2 * step + 2]
        own.add(groups, [scorer.score(group) for group in groups])
    assert found.first.audit.steps == own.steps and found.first.groups == 19


def test_a_hack_is_named_by_the_replay_of_a_stored_run():
    runs: list[list[Any]] = []
    for step in range(12):
        quits = ["no_submit"] * (step // 3 + 1)
        runs.append(stored(step, *quits, *["tests_fail"] * (4 - len(quits))))
    found = compare(runs, Recipe(recipe("g_ra")), Recipe(recipe("outcome")))
    assert "audit of g_ra: critic 'outcome': fewer and fewer episodes are submitted" in found.text
    assert found.data["recipes"][1]["warnings"]


def test_sign_changes_beyond_those_that_are_kept_are_counted():
    one = stored(0, "no_submit", "empty_patch", "empty_patch")
    found = compare(itertools.repeat(one, KEPT + 5), Recipe(recipe("outcome")), Recipe(recipe("pure")))
    assert found.data["changes"] == KEPT + 5 and len(found.data["sign_changes"]) == KEPT
    assert f"and {KEPT + 5 - 20} more" in found.text


def test_verpo_finds_signal_where_the_outcome_has_none():
    runs = [stored(0, "tests_fail", "tests_fail", "tests_fail"), stored(1, "tests_pass", "tests_fail")]
    found = compare(runs, Recipe(recipe("outcome")), Recipe(recipe("verpo")))
    first, second = found.data["recipes"]
    assert (first["carrying"], second["carrying"]) == (1, 2) and first["degenerate"] == 1
    assert first["rank_agreement"] == 1.0 and first["turn_signal"] == 0.0 < second["turn_signal"]
    assert "groups that carry signal" in found.text and "outcome" in found.text


def test_a_trajectory_that_changes_sign_is_named():
    found = compare(
        [stored(0, "no_submit", "empty_patch", "empty_patch")], Recipe(recipe("outcome")), Recipe(recipe("pure"))
    )
    changed = found.data["sign_changes"]
    assert [row["key"] for row in changed] == ["0-0-0-2"] and changed[0]["before"] > 0 > changed[0]["after"]
    assert "1 trajectories change sign" in found.text and "0-0-0-2" in found.text


def test_scoring_by_hand_shows_each_reward_and_masks_infrastructure():
    found = score_matrix(MATRIX, Recipe(recipe("verpo_gated")))
    first, second, third = found.data["trajectories"]
    assert (first["gate"], second["gate"], third["valid"]) == ("open", "closed", False)
    assert (
        second["turns"][0]["R_turn"]["tests"] == 0.0 and first["turns"][1]["advantage"] > first["turns"][0]["advantage"]
    )
    assert "masked" in found.text


def test_scoring_by_hand_knows_which_tests_are_which():
    turns = [{"source": {"kind": "tests", "aggregation": {"kind": "f2p"}}}]
    found = score_matrix(MATRIX, Recipe(recipe("verpo", turns=turns)))
    assert [turn["R_turn"]["tests"] for turn in found.data["trajectories"][0]["turns"]] == [0.0, 1.0]
    with pytest.raises(RewardError, match="F2P"):
        score_matrix({"trajectories": MATRIX["trajectories"]}, Recipe(recipe("verpo", turns=turns)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f2p": [9]}, "9 is none of them"),
        ({"trajectories": []}, "at least 1"),
        ({"trajectories": [{"outcome": "infra", "turns": [{"confidence": float("nan")}]}]}, "finite number"),
        ({"trajectories": [{"outcome": "won"}]}, "won"),
        ({"trajectories": [{"outcome": "infra", "turns": [{"testz": "1"}]}]}, "testz"),
        ({"trajectories": [{"outcome": "infra", "turns": [{"tests": "12"}]}]}, "tests"),
    ],
)
def test_a_broken_matrix_is_refused(change: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        score_matrix({"trajectories": [{"outcome": "infra"}]} | change, Recipe(recipe("verpo")))
    assert words in str(caught.value)


def test_scoring_a_small_group_imports_neither_numpy_nor_anything_heavy():
    code = (
        "import sys; from rewards.matrix import score_matrix; from rewards.recipe import Recipe;"
        "from rewards.config import RewardConfig as C; from rewards.turns import TurnChannel as T;"
        "from rewards.critics.tests import TestVector as V;"
        "t = [{'outcome': 'tests_fail', 'turns': [{'tests': x}]} for x in ('110', '100')];"
        "score_matrix({'trajectories': t}, Recipe(C(turns=(T(source=V()),))));"
        "print(sorted({'numpy', 'torch', 'docker', 'openhands_aci', 'pygls'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
