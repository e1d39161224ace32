"""Section 5 of the specification, for every shipped recipe: order of outcomes, gates before means, masking,
degenerate groups."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hands import FOLDER, LADDER, NAMES, flat, groups, members, recipe, score, turns
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.trajectory import Outcome
from rewards.config import RewardConfig
from rewards.recipe import Recipe

CONFIGS = {name: recipe(name) for name in NAMES}
names = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=8)


def test_the_list_of_recipes_is_the_folder():
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(NAMES)


@names
@few
@given(turns(), groups(0, 3))
def test_the_same_facts_earn_more_the_better_the_outcome(name: str, facts: list[dict[str, Any]], rest: list[Any]):
    config = CONFIGS[name]
    ladder = [{"outcome": outcome, "diagnostics": 3, "turns": facts} for outcome in LADDER]
    credit = score(config, *ladder, *rest)
    for index, (lower, upper) in enumerate(pairwise(map(Outcome, LADDER))):
        below, above = credit.returns[index], credit.returns[index + 1]
        assert below < above if config.outcome.of(lower) < config.outcome.of(upper) else below <= above
        assert credit.trajectory[index] <= credit.trajectory[index + 1] + 1e-12
        for worse, better in zip(credit.turns[index], credit.turns[index + 1], strict=True):
            assert worse <= better + 1e-9


@names
@few
@given(groups(2, 5))
def test_no_lower_outcome_reaches_the_return_of_a_higher_one_whatever_the_facts(name: str, found: list[Any]):
    credit = score(CONFIGS[name], *found)
    for i, left in enumerate(found):
        for j, right in enumerate(found):
            low, high = (CONFIGS[name].outcome.of(Outcome(one["outcome"])) for one in (left, right))
            assert not low < high or credit.returns[i] < credit.returns[j]


@names
@few
@given(groups(2, 4), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_infrastructure_failures_are_outside_the_statistics(name: str, found: list[Any], places: list[int]):
    mixed = list(found)
    for place in places:
        mixed.insert(min(place, len(mixed)), {"outcome": "infra", "turns": [{"tests": "00000", "tree": "x"}]})
    with_them, alone = score(CONFIGS[name], *mixed), score(CONFIGS[name], *found)
    kept = [place for place, valid in enumerate(with_them.valid) if valid]
    assert [with_them.turns[place] for place in kept] == list(alone.turns)
    assert all(not any(row) for row, valid in zip(with_them.turns, with_them.valid, strict=True) if not valid)


@names
@few
@given(members())
def test_fewer_than_two_valid_members_give_no_credit(name: str, member: Any):
    credit = score(CONFIGS[name], member, {"outcome": "infra", "turns": [{}]})
    assert not any(flat(credit.turns)) and not any(credit.trajectory)


@names
@few
@given(members(), st.integers(2, 5))
def test_members_that_cannot_be_told_apart_get_exactly_zero_a_traj(name: str, member: Any, copies: int):
    credit = score(CONFIGS[name], *[member] * copies)
    assert credit.degenerate and credit.trajectory == (0.0,) * copies


@names
@few
@given(groups(2, 4))
def test_the_same_group_scores_bit_for_bit_the_same(name: str, found: list[Any]):
    assert score(CONFIGS[name], *found) == score(CONFIGS[name], *found)


@names
@few
@given(groups(2, 4), st.randoms(use_true_random=False))
def test_the_order_of_the_group_does_not_matter(name: str, found: list[Any], random: Any):
    order = list(range(len(found)))
    random.shuffle(order)
    one, two = score(CONFIGS[name], *found), score(CONFIGS[name], *[found[i] for i in order])
    for place, i in enumerate(order):
        assert two.turns[place] == pytest.approx(one.turns[i], abs=1e-12)


@names
@few
@given(groups(1, 3), members(), st.sampled_from(LADDER))
def test_a_flagged_grade_gets_no_positive_credit(name: str, rest: list[Any], member: Any, outcome: str):
    flagged = member | {"outcome": "tests_pass", "flags": ["a value that equals everything"]}
    credit = score(CONFIGS[name], flagged, *rest, member | {"outcome": outcome})
    assert credit.trajectory[0] <= 0.0 and all(value <= 0.0 for value in credit.turns[0])
    looked_at = CONFIGS[name].model_copy(update={"withhold_flagged": False})
    assert Recipe(looked_at).config.withhold_flagged is False


@pytest.mark.parametrize("name", ["g_ra", "verpo_gated", "all_gated", "lanser_v2"])
@few
@given(turns(), groups(0, 3))
def test_not_submitting_never_beats_submitting_and_failing(name: str, facts: list[dict[str, Any]], rest: list[Any]):
    pair = [{"outcome": outcome, "diagnostics": 3, "turns": facts} for outcome in ("no_submit", "tests_fail")]
    credit = score(CONFIGS[name], *pair, *rest)
    for quits, fails in zip(credit.turns[0], credit.turns[1], strict=True):
        assert quits <= fails + 1e-12


def test_a_gate_closes_before_the_mean_is_taken():
    turn = {"tests": "11000"}
    best = {"outcome": "tests_fail", "turns": [{"tests": "11110"}]}
    credit = score(CONFIGS["verpo_gated"], {"outcome": "no_submit", "turns": [turn]}, best)
    assert credit.turn_parts["tests"][0][0] < 0.0
    assert sum(flat(credit.turn_parts["tests"])) == pytest.approx(0.0, abs=1e-12)


def test_equal_outcomes_with_different_turn_rewards_still_carry_turn_credit():
    credit = score(CONFIGS["verpo"], *[{"outcome": "tests_fail", "turns": [{"tests": t}]} for t in ("100", "110")])
    assert credit.degenerate and credit.trajectory == (0.0, 0.0) and credit.turns[0][0] < 0 < credit.turns[1][0]


@pytest.mark.parametrize("name", ["verpo", "verpo_gated", "pure"])
def test_reading_undoing_and_redoing_are_no_attempts(name: str):
    first = {"tests": "11000", "tree": "a"}
    plain = {"outcome": "tests_fail", "turns": [first]}
    idle = {"outcome": "tests_fail", "turns": [first, {"tree": "a"}, {"tree": "base"}, first]}
    other = {"outcome": "tests_fail", "turns": [{"tests": "11110", "tree": "b"}]}
    credit = score(CONFIGS[name], plain, idle, other)
    assert credit.turn_parts["tests"][1][1:] == (0.0, 0.0, 0.0)
    assert credit.turn_parts["tests"][1][0] == credit.turn_parts["tests"][0][0]


def test_a_gate_that_spares_more_negative_reward_than_the_gap_is_refused():
    channel = recipe("lanser_v2").turns[0].model_dump()
    with pytest.raises(ValidationError, match=r"no_submit|empty_patch"):
        recipe("lanser_v2", turns=[channel | {"beta": 1.0}])
    assert recipe("lanser_v2", turns=[channel | {"beta": 0.3}]).turns[0].beta == 0.3


@few
@given(turns(), turns(), st.floats(0.01, 0.3))
def test_the_bound_on_spared_reward_is_enough(facts: list[Any], other: list[Any], beta: float):
    config = recipe("lanser_v2", turns=[recipe("lanser_v2").turns[0].model_dump() | {"beta": beta}])
    pair = [{"outcome": outcome, "diagnostics": 1, "turns": facts} for outcome in ("empty_patch", "tests_fail")]
    credit = score(config, *pair, {"outcome": "tests_fail", "diagnostics": 1, "turns": other})
    assert all(q <= f + 1e-12 for q, f in zip(credit.turns[0], credit.turns[1], strict=True))


def test_each_recipe_says_which_facts_it_needs():
    assert CONFIGS["all_gated"].needs == {"tests": "turns.tests", "diagnostics": "turns.pr_v2"}
    assert CONFIGS["g_ra"].needs == {}
    assert isinstance(CONFIGS["g_ra"], RewardConfig)
