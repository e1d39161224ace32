"""Returns and A_traj: order of outcomes, gates, masking, degenerate groups, refused configs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards.config import RewardConfig
from rewards.matrix import Matrix
from rewards.recipe import Recipe

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "rewards").glob("*.toml"))
LADDER = ("no_submit", "empty_patch", "tests_fail", "tests_pass")
G_RA = RewardConfig()


def load(path: Path) -> RewardConfig:
    return RewardConfig.model_validate(tomllib.loads(path.read_text()))


def score(config: RewardConfig, *trajectories: dict[str, Any]):
    return Recipe(config).score(Matrix.model_validate({"trajectories": trajectories}).group())


turns = st.lists(st.fixed_dictionaries({"format_ok": st.booleans(), "tool_ok": st.booleans()}), min_size=1, max_size=6)
members = st.fixed_dictionaries({"outcome": st.sampled_from(LADDER), "turns": turns})


@given(st.lists(members, min_size=2, max_size=6))
def test_minus_infinity_is_d_ra_and_plus_infinity_is_the_outcome_bit_for_bit(group: list[dict[str, Any]]):
    base = G_RA.model_dump()
    no_gates = tuple(critic.model_copy(update={"threshold": float("-inf")}) for critic in G_RA.critics)
    free = RewardConfig.model_validate(
        base | {"critics": no_gates, "combination": {"kind": "g_ra", "threshold": float("-inf")}}
    )
    shut = RewardConfig.model_validate(base | {"combination": {"kind": "g_ra", "threshold": float("inf")}})
    d_ra = RewardConfig.model_validate(base | {"combination": {"kind": "d_ra"}})
    outcome = RewardConfig.model_validate(base | {"combination": {"kind": "outcome"}})
    for granularity in ("episode", "step"):
        stepwise = free.model_copy(
            update={"combination": free.combination.model_copy(update={"granularity": granularity})}
        )
        assert score(stepwise, *group).returns == score(d_ra, *group).returns
    assert score(shut, *group).returns == score(outcome, *group).returns


@given(members, st.sampled_from(LADDER))
def test_an_open_trajectory_never_falls_below_its_own_outcome(member: dict[str, Any], other: str):
    credit = score(G_RA, member, {"outcome": other})
    assert credit.returns[0] >= credit.parts["outcome"][0]
    assert credit.gate[0] or credit.returns[0] == credit.parts["outcome"][0]


@given(st.lists(members, min_size=2, max_size=6))
def test_advantages_of_a_group_sum_to_zero(group: list[dict[str, Any]]):
    assert sum(score(G_RA, *group).trajectory) == pytest.approx(0.0, abs=1e-12)


@given(st.lists(members, min_size=2, max_size=6), st.lists(st.integers(0, 6), max_size=4))
def test_an_infrastructure_failure_changes_nothing_for_the_others(group: list[dict[str, Any]], places: list[int]):
    mixed = list(group)
    for place in places:
        mixed.insert(min(place, len(mixed)), {"outcome": "infra", "turns": [{}, {}]})
    credit, alone = score(G_RA, *mixed), score(G_RA, *group)
    kept = [i for i, ok in enumerate(credit.valid) if ok]
    assert [credit.trajectory[i] for i in kept] == list(alone.trajectory)
    assert all(not any(row) for row, ok in zip(credit.turns, credit.valid, strict=True) if not ok)


def test_one_valid_member_gives_no_credit():
    credit = score(G_RA, {"outcome": "tests_pass", "turns": [{}]}, {"outcome": "infra", "turns": [{}]})
    assert credit.degenerate and credit.trajectory == (0.0, 0.0) and credit.turns == ((0.0,), (0.0,))


def test_a_group_without_any_valid_member_gives_no_credit():
    assert score(G_RA, {"outcome": "infra", "turns": [{}]}).turns == ((0.0,),)


@pytest.mark.parametrize("kind", ["mean_only", "mean_std", "leave_one_out"])
def test_returns_equal_up_to_rounding_give_exactly_zero(kind: str):
    config = RewardConfig.model_validate({"normaliser": {"kind": kind}})
    seven, one = [{"format_ok": i != 0} for i in range(7)], [{"format_ok": i != 6} for i in range(7)]
    credit = score(config, {"outcome": "tests_fail", "turns": seven}, {"outcome": "tests_fail", "turns": one})
    assert credit.degenerate and credit.trajectory == (0.0, 0.0)


def test_half_of_the_turns_well_formed_opens_the_lower_channel_whatever_the_rounding():
    for half in range(1, 30):
        turns = [{"format_ok": i < half} for i in range(2 * half)]
        credit = score(G_RA, {"outcome": "tests_fail", "turns": turns}, {"outcome": "no_submit"})
        assert credit.returns[0] == pytest.approx(0.15)


def test_a_malformed_turn_forfeits_only_its_own_lower_rewards_in_step_form():
    config = RewardConfig.model_validate({"combination": {"kind": "g_ra", "granularity": "step"}})
    turns = [{"format_ok": True}, {"format_ok": False}, {"format_ok": False}, {"format_ok": False}]
    assert score(config, {"outcome": "tests_fail", "turns": turns}).returns[0] == pytest.approx(0.025 + 0.025)
    assert score(G_RA, {"outcome": "tests_fail", "turns": turns}).returns[0] == pytest.approx(0.025)


def test_a_flagged_pass_earns_nothing_positive_and_lowers_no_baseline_as_a_pass():
    flagged = {"outcome": "tests_pass", "turns": [{}], "flags": ["imports _pytest"]}
    credit = score(G_RA, flagged, {"outcome": "no_submit", "turns": [{}]})
    assert credit.trajectory[0] == 0.0 and credit.turns[0] == (0.0,) and credit.trajectory[1] < 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"combination": {"kind": "g_ra", "threshold": -2.0}}, "no two outcome levels"),
        ({"combination": {"kind": "g_ra", "threshold": 1.5}}, "no two outcome levels"),
        ({"combination": {"kind": "g_ra", "threshold": float("nan")}}, "NaN"),
        (
            {"critics": [{"kind": "format", "weight": 0.6}, {"kind": "tool_call", "weight": 0.5}]},
            "cross the gap between",
        ),
        ({"critics": [{"kind": "format", "priority": 4}]}, "may not gate the outcome"),
        ({"critics": [{"kind": "format", "threshold": 0.2}]}, "separates nothing"),
        ({"critics": [{"kind": "format"}, {"kind": "format"}]}, "listed twice"),
        ({"outcome": {"empty_patch": 0.5}}, "ascend"),
        ({"critics": [{"kind": "fromat"}]}, "fromat"),
        ({"normalizer": {"kind": "mean_only"}}, "normalizer"),
        (
            {"outcome": {"discount": 0.9}, "critics": [{"kind": "format", "weight": 0.3}]},
            "cross the gap between tests_fail",
        ),
    ],
)
def test_a_config_that_could_mislead_is_refused_with_its_names(change: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        RewardConfig.model_validate(change)
    assert words in str(caught.value)


def test_a_crossing_that_the_gate_closes_is_accepted():
    wide = [{"kind": "format", "weight": 0.4}, {"kind": "tool_call", "weight": 0.5}]
    assert RewardConfig.model_validate({"critics": wide}).critics[1].weight == 0.5
    with pytest.raises(ValidationError, match=r"no_submit .* and empty_patch"):
        RewardConfig.model_validate({"critics": wide, "combination": {"kind": "d_ra"}})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_shipped_recipe_loads_under_its_own_name(path: Path):
    assert load(path).name == path.stem


def test_a_config_survives_its_own_json():
    config = RewardConfig.model_validate({"combination": {"kind": "g_ra", "threshold": float("-inf")}})
    assert RewardConfig.model_validate_json(config.model_dump_json()) == config
