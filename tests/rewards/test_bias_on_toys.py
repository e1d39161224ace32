"""Expected gradients of every option against the exact one, by enumeration (invariant 4 and section 5.4 of the
spec)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hands import NAMES, recipe

from rewards.assign.immediate import Immediate
from rewards.assign.min_form import MinForm
from rewards.assign.potential import PotentialDifference
from rewards.assign.return_to_go import ReturnToGo
from rewards.matrix import score_matrix
from rewards.normalise.anchor import Anchor
from rewards.normalise.leave_one_out import LeaveOneOut
from rewards.normalise.mean_only import MeanOnly
from rewards.normalise.mean_std import MeanStd
from rewards.normalise.per_index import PerIndex
from rewards.normalise.prefix_tree import PrefixTree
from rewards.normalise.token_share import TokenShare
from rewards.recipe import Recipe
from rewards.toys import (
    TOYS,
    Measured,
    measure,
    of_returns,
    of_turns,
    options,
    stopping,
    table,
    total_return,
    two_turns,
)

DOCS = Path(__file__).parents[2] / "docs" / "rewards.md"
PASS_RATE: dict[str, Any] = {"kind": "tests", "aggregation": {"kind": "pass_rate"}}
TO_GO, ALONE = {"kind": "return_to_go"}, {"kind": "leave_one_out"}
DECLARED = {
    "A_traj, leave_one_out": LeaveOneOut,
    "A_traj, mean_only": MeanOnly,
    "A_traj, mean_std": MeanStd,
    "credit immediate": Immediate,
    "credit return_to_go": ReturnToGo,
    "credit min_form": MinForm,
    "credit potential, keep": PotentialDifference,
    "A_turn, mean_only": MeanOnly,
    "A_turn, mean_std": MeanStd,
    "A_turn, per_index": PerIndex,
    "A_turn, token_share": TokenShare,
    "A_turn, anchor": Anchor,
    "A_turn, prefix_tree": PrefixTree,
}


def test_the_exact_gradient_of_the_stopping_toy_is_one_half():
    found = measure(stopping(), of_returns("leave_one_out"), total_return)
    assert found.exact == pytest.approx((0.5,)) and found.expected == pytest.approx((0.5,), abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.__name__)
def test_leave_one_out_is_unbiased_and_the_self_inclusive_mean_shrinks(toy: Any, size: int):
    alone = measure(toy(), of_returns("leave_one_out"), total_return, size)
    assert alone.expected == pytest.approx(alone.exact, abs=1e-12)
    mean = measure(toy(), of_returns("mean_only"), total_return, size)
    assert mean.expected == pytest.approx([(size - 1) / size * value for value in mean.exact], abs=1e-12)


def test_centring_rewards_per_turn_index_leaves_nothing_on_the_stopping_toy():
    channel = of_turns(source=PASS_RATE, normaliser={"kind": "per_index"})
    assert measure(stopping(), channel, "tests").expected == (0.0,)


@pytest.mark.parametrize("name", DECLARED)
def test_an_option_declares_the_bias_that_is_measured(name: str):
    config, objective = next((c, o) for option, c, o in options() if option == name)
    unbiased = all(measure(toy(), config, objective).unbiased for toy in TOYS)
    assert DECLARED[name].biased is not unbiased


def test_return_to_go_credits_either_turn_as_much_as_the_exact_gradient():
    found = measure(two_turns(), of_turns(source=PASS_RATE, credit=TO_GO, normaliser=ALONE), "tests")
    assert all(abs(value) > 0.01 for value in found.exact)
    assert found.expected == pytest.approx(found.exact, abs=1e-12)


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.__name__)
def test_pr_v2_with_terminal_zero_is_a_control_variate(toy: Any):
    zero = of_turns(source={"kind": "pr_v2", "terminal": "zero"}, credit=TO_GO, normaliser=ALONE)
    found = measure(toy(), zero, "pr_v2")
    assert found.exact == pytest.approx([0.0] * toy().logits, abs=1e-12)
    assert found.expected == pytest.approx([0.0] * toy().logits, abs=1e-12)


def test_pr_v2_with_terminal_keep_changes_the_objective():
    found = measure(two_turns(), of_turns(source={"kind": "pr_v2"}, credit=TO_GO, normaliser=ALONE), "pr_v2")
    assert max(map(abs, found.exact)) > 0.01
    assert found.expected == pytest.approx(found.exact, abs=1e-12)


def test_a_measured_bias_is_told_apart_from_a_shorter_step():
    assert Measured((1.0, 0.0), (0.5, 0.0)).ratio == 0.5 and Measured((1.0, 0.0), (0.5, 0.0)).astray == 0.0
    assert Measured((1.0, 0.0), (1.0, 0.3)).astray == pytest.approx(0.3)
    assert not Measured((1.0,), (0.5,)).unbiased


def test_the_docs_show_the_table_that_is_measured():
    assert table() in DOCS.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_explain_each_recipe(name: str):
    assert f"### `{name}`" in DOCS.read_text() and recipe(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_in_the_docs_are_what_score_prints(name: str):
    data = json.loads(DOCS.with_name("rewards-example.json").read_text())
    assert score_matrix(data, Recipe(recipe(name))).text in DOCS.read_text()
