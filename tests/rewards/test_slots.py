"""Critics, combinations, credit options and turn normalisers, one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hands import explain, flat, group, groups, recipe, score
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards.assign.immediate import Immediate
from rewards.assign.min_form import MinForm
from rewards.assign.potential import PotentialDifference
from rewards.assign.return_to_go import ReturnToGo
from rewards.combine.clip_delta import ClipDelta
from rewards.config import RewardConfig
from rewards.errors import RewardError
from rewards.recipe import Recipe

few = settings(max_examples=50)
scores = st.lists(st.floats(-1, 1), min_size=1, max_size=6)
gappy = st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=6)


def config(**keys: Any) -> RewardConfig:
    return RewardConfig.model_validate({"critics": [], "combination": {"kind": "d_ra"}} | keys)


def marks(critic: dict[str, Any], *trajectories: Any, **keys: Any) -> list[tuple[float, ...]]:
    account = explain(config(critics=[critic], allow_negative=True, **keys), *trajectories)
    return [channels[0].turns for channels in account.channels]


# -- critics


def test_tool_choice_pays_once_for_an_edit_before_submit():
    edit, submit, bash = {"action": "edit"}, {"action": "submit"}, {"action": "bash"}
    failed = {"action": "edit", "tool_ok": False}
    found = marks(
        {"kind": "tool_choice"},
        {"outcome": "tests_fail", "turns": [edit, edit, submit]},
        {"outcome": "empty_patch", "turns": [bash, failed, submit]},
        {"outcome": "no_submit", "turns": [edit, bash]},
    )
    assert found == [(0.0, 0.0, 0.05), (0.0, 0.0, 0.0), (0.0, 0.0)]


def test_suppressions_cost_what_the_final_tree_silences():
    turns = [{"tree": "a", "suppressed": 1}, {"tree": "b", "suppressed": 4}, {"tree": "c", "suppressed": 2}]
    found = marks({"kind": "suppressed", "weight": 0.2, "cap": 3}, {"outcome": "tests_fail", "turns": turns})
    assert found[0] == pytest.approx((0.0, -0.2, 0.2 * 2 / 3))


def test_turn_cost_stops_at_its_horizon():
    found = marks({"kind": "turn_cost", "weight": 0.1, "horizon": 2}, {"outcome": "no_submit", "turns": [{}] * 4})
    assert found == [(-0.05, -0.05, 0.0, 0.0)]


def process(version: str, base: int, *turns: dict[str, Any], **keys: Any) -> list[float]:
    source = {"kind": version} | keys
    credit = {"kind": "return_to_go"} if keys.get("terminal") == "zero" else {"kind": "immediate"}
    made = config(turns=[{"source": source, "credit": credit}])
    trajectory = {"outcome": "tests_fail", "diagnostics": base, "turns": turns}
    return [value or 0.0 for value in explain(made, trajectory).turn_rewards[version][0]]


@few
@given(
    st.integers(0, 6), st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.floats(0, 1)), min_size=1, max_size=6)
)
def test_pr_v2_telescopes_and_oscillation_earns_nothing(base: int, facts: list[Any]):
    turns = [{"tree": f"t{i}", "diagnostics": d, "safe": s, "confidence": a} for i, (d, s, a) in enumerate(facts)]
    back = {"tree": "home", "diagnostics": base, "safe": True, "confidence": 1.0}
    assert sum(process("pr_v2", base, *turns, back)) == pytest.approx(0.0, abs=1e-9)
    zero = process("pr_v2", base, *turns, terminal="zero")
    assert sum(zero) == pytest.approx(-(0.5 - 0.5 * (base > 0)), abs=1e-9)


def test_pr_v1_pays_no_op_renames_and_pr_v2_does_not():
    renames = [{"tree": f"t{i}", "diagnostics": 3, "safe": True} for i in range(10)]
    assert sum(process("pr_v1", 3, *renames)) == pytest.approx(4.0)
    assert sum(process("pr_v2", 3, *renames)) == pytest.approx(0.0, abs=1e-12)


def test_killing_the_server_is_refused_or_charged_and_never_pays():
    killed = [{"tree": "a", "diagnostics": 1}, {"tree": "b"}]
    with pytest.raises(RewardError, match="sample 0, turn 1"):
        process("pr_v2", 3, *killed)
    assert sum(process("pr_v2", 3, *killed, missing="worst")) <= 0.0


@few
@given(groups(2, 3))
def test_the_bounds_of_a_critic_hold(found: list[Any]):
    for kind in ("format", "tool_call", "tool_choice", "suppressed", "turn_cost", "pr_v2"):
        critic = {"kind": kind} | ({"missing": "worst", "weight": 0.1} if kind == "pr_v2" else {})
        critic |= {"weight": 0.1}
        account = explain(config(critics=[critic], allow_negative=True), *found)
        low, high = config(critics=[critic], allow_negative=True).critics[0].bounds()
        assert all(low - 1e-9 <= channels[0].value <= high + 1e-9 for channels in account.channels)


# -- combinations


def test_a_negative_critic_needs_permission_or_a_clamp():
    cost = {"kind": "turn_cost"}
    with pytest.raises(ValidationError, match="'turn_cost' can be negative"):
        config(critics=[cost])
    assert config(critics=[cost], allow_negative=True).allow_negative
    credit = score(config(critics=[cost], clamp=0.1), *[{"outcome": "tests_fail", "turns": [{}] * n} for n in (1, 9)])
    assert credit.returns == (0.0, 0.0)


def test_pr_v1_in_the_return_is_unbounded_and_needs_a_clamp():
    with pytest.raises(ValidationError, match="cross the gap"):
        config(critics=[{"kind": "pr_v1"}], allow_negative=True)
    clamped = config(critics=[{"kind": "pr_v1"}], clamp=0.25)
    turns = [{"tree": f"t{i}", "diagnostics": 3, "safe": True} for i in range(10)]
    assert score(clamped, {"outcome": "tests_fail", "turns": turns}).returns == (pytest.approx(0.25),)


def test_renorm_lies_in_zero_one_when_best_and_in_minus_one_zero_when_worst():
    made = config(critics=[{"kind": "format", "weight": 0.2}], combination={"kind": "renorm"})
    found = [{"outcome": o, "turns": [{"format_ok": ok}]} for o in ("tests_pass", "no_submit") for ok in (True, False)]
    assert score(made, *found).returns == pytest.approx((0.2, 0.0, -0.8, -1.0))


def test_renorm_with_critics_that_cross_is_refused():
    with pytest.raises(ValidationError, match="cross the gap"):
        config(critics=[{"kind": "format", "weight": 0.3}], combination={"kind": "renorm"})


def test_log_sigmoid_is_the_log_probability_that_all_are_good():
    made = config(critics=[{"kind": "format", "weight": 0.1}], combination={"kind": "log_sigmoid"})
    value = score(made, {"outcome": "tests_pass", "turns": [{}]}).returns[0]
    assert value == pytest.approx(-math.log1p(math.exp(-2.0)) - math.log1p(math.exp(-0.1)))


@few
@given(scores)
def test_delta_telescopes_and_clip_never_pays(found: list[float]):
    refined = ClipDelta(clip=False).refine(found)
    for k in range(len(found) - 1):
        assert math.fsum(refined[k:]) == pytest.approx(found[k], abs=1e-12)
    assert all(step <= 0.0 for step in ClipDelta(delta=False, eta=0.3).refine(found))


def test_clip_delta_in_a_recipe_is_bounded_and_refuses_longer_episodes():
    made = config(
        critics=[{"kind": "format", "weight": 0.1}], combination={"kind": "clip_delta", "eta": 0.05, "horizon": 3}
    )
    credit = score(made, {"outcome": "tests_fail", "turns": [{"format_ok": False}, {}, {}]}, {"outcome": "no_submit"})
    assert credit.returns[0] == pytest.approx(-0.05)
    with pytest.raises(RewardError, match="beyond its horizon 3"):
        score(made, {"outcome": "tests_fail", "turns": [{}] * 4})


# -- credit


@few
@given(gappy)
def test_turns_without_a_reward_get_no_return(rewards: list[float | None]):
    for option in (Immediate(), ReturnToGo(), MinForm(), PotentialDifference(), PotentialDifference(terminal="zero")):
        returns = option.assign(rewards)
        assert [value is None for value in returns] == [reward is None for reward in rewards]


@few
@given(scores)
def test_return_to_go_sums_to_the_end(rewards: list[float]):
    assert ReturnToGo().assign(rewards)[0] == pytest.approx(math.fsum(rewards), abs=1e-12)
    discounted = ReturnToGo(gamma=0.5).assign(rewards)
    assert discounted[0] == pytest.approx(sum(r * 0.5**k for k, r in enumerate(rewards)), abs=1e-12)


@few
@given(scores)
def test_the_min_form_tends_to_the_minimum_and_stays_in_range(rewards: list[float]):
    cold = MinForm(temperature=1e-4).assign(rewards)[0]
    distinct = [r for r in rewards if r - min(rewards) > 1e-2 or r == min(rewards)]
    if len(distinct) == len(rewards):
        assert cold == pytest.approx(min(rewards), abs=1e-3)
    assert min(rewards) - 1e-9 <= (MinForm().assign(rewards)[0] or 0.0) <= max(rewards) + 1e-9


@few
@given(scores)
def test_potential_credit_is_the_change_to_the_end_or_the_state_left_behind(values: list[float]):
    keep = PotentialDifference().assign(values)
    zero = PotentialDifference(terminal="zero").assign(values)
    before = [0.0, *values[:-1]]
    assert keep == pytest.approx([values[-1] - b for b in before])
    assert zero == pytest.approx([-b for b in before])


@few
@given(groups(2, 4), st.sampled_from(["episode", "step"]))
def test_g_ra_credits_each_turn_with_its_own_gated_step_reward(found: list[Any], granularity: str):
    gate = recipe("g_ra").combination.model_dump() | {"granularity": granularity}
    account = explain(recipe("g_ra", combination=gate), *found)
    rewards = [list(one.steps) for one in account.combined]
    assert account.turn_rewards["steps"] == rewards
    middle = math.fsum(flat(rewards)) / len(flat(rewards))
    parts = flat(account.credit.turn_parts["steps"])
    told_apart = max(flat(rewards)) - min(flat(rewards)) > 1e-6 * max(flat(rewards))
    assert parts == pytest.approx([reward - middle if told_apart else 0.0 for reward in flat(rewards)], abs=1e-15)


def test_a_turn_without_a_valid_action_is_credited_less_than_its_neighbour_under_g_ra():
    turns = [{"format_ok": True}, {"format_ok": False, "tool_ok": False}]
    good = {"outcome": "tests_fail", "turns": [{}, {}]}
    credit = score(recipe("g_ra"), {"outcome": "tests_fail", "turns": turns}, good)
    assert credit.turns[0][1] < credit.turns[0][0] < credit.turns[1][0]
    quits = score(recipe("g_ra"), {"outcome": "no_submit", "turns": turns}, good)
    assert quits.turn_parts["steps"][0][0] == quits.turn_parts["steps"][0][1] < 0 < quits.turn_parts["steps"][1][0]


def test_the_steps_of_a_return_that_pays_none_are_refused():
    steps = [{"source": {"kind": "steps"}}]
    for change in ({}, {"critics": [{"kind": "format"}], "combination": {"kind": "outcome"}}):
        with pytest.raises(ValidationError, match="no critic is in it"):
            config(turns=steps, **change)


def test_negative_steps_that_a_gate_spares_must_stay_below_the_gap():
    cost = {"critics": [{"kind": "turn_cost", "weight": 0.1}], "allow_negative": True, "combination": {"kind": "g_ra"}}
    assert config(turns=[{"source": {"kind": "steps"}}], **cost).turns[0].beta == 1.0
    for source in ("steps", "return"):
        with pytest.raises(ValidationError, match=rf"the gate can spare empty_patch up to 0.5 .*\({source}\)"):
            config(turns=[{"source": {"kind": source}, "beta": 5.0}], **cost)


# -- normalisers of turns


def test_anchor_compares_steps_taken_from_one_tree_and_gives_singletons_nothing():
    walk = [{"tree": "a"}, {"tree": "b"}]
    found = [
        {"outcome": "tests_pass", "turns": walk},
        {"outcome": "tests_fail", "turns": [{"tree": "a"}, {"tree": "c"}]},
        {"outcome": "no_submit", "turns": [{"tree": "d"}, {"tree": "e"}]},
    ]
    parts = score(recipe("gigpo"), *found).turn_parts["return"]
    assert [row[0] for row in parts] == pytest.approx([0.95, 0.0, -0.95])
    assert [row[1] for row in parts] == pytest.approx([0.5, -0.5, 0.0])


def test_anchor_needs_the_tree_of_a_turn_that_changed_it():
    with pytest.raises(RewardError, match="tree hash"):
        score(recipe("gigpo"), *[{"outcome": o, "turns": [{"tests": "1"}]} for o in ("tests_pass", "tests_fail")])


def tempo_paths(*paths: str) -> list[dict[str, Any]]:
    outcomes = ["tests_pass", "tests_fail", "no_submit", "tests_pass"]
    return [
        {"outcome": outcome, "turns": [{"action": step} for step in path]}
        for outcome, path in zip(outcomes, paths, strict=False)
    ]


def test_tempo_pays_only_where_the_group_branches_and_telescopes():
    undivided = recipe("tempo").turns[0].model_dump() | {"normaliser": {"kind": "prefix_tree", "divide": False}}
    made = recipe("tempo", turns=[undivided], normaliser={"kind": "mean_only"})
    credit = score(made, *tempo_paths("ab", "ac", "ad"))
    parts = credit.turn_parts["return"]
    assert all(row[0] == 0.0 for row in parts)
    assert [sum(row) for row in parts] == pytest.approx(credit.trajectory)


def test_tempo_without_any_branch_is_grpo():
    credit = score(recipe("tempo"), *tempo_paths("ab", "ab", "ab"))
    grpo = score(recipe("tempo", turns=[]), *tempo_paths("ab", "ab", "ab"))
    assert credit.turns == grpo.turns


def test_pure_subtracts_the_siblings_reward_per_token():
    found = [
        {"outcome": "tests_fail", "turns": [{"tests": "1100", "tokens": 4}, {"tests": "1110", "tokens": 2}]},
        {"outcome": "tests_fail", "turns": [{"tests": "1000", "tokens": 10}]},
    ]
    account = explain(recipe("pure"), *found)
    first = [value or 0.0 for value in MinForm().assign([0.5, 0.75])]
    parts = account.credit.turn_parts["tests"]
    assert parts[0] == pytest.approx([first[0] - 0.025 * 6, first[1] - 0.025 * 2])
    assert parts[1] == pytest.approx([0.25 - first[0] / 6 * 10])


def test_per_index_centring_leaves_nothing_where_every_reward_is_the_same():
    channel = {"source": {"kind": "format"}, "normaliser": {"kind": "per_index"}}
    credit = score(config(turns=[channel]), *[{"outcome": "tests_fail", "turns": [{}] * n} for n in (1, 2, 3)])
    assert not any(flat(credit.turns))


@few
@given(groups(2, 4), st.sampled_from(["mean_only", "mean_std", "leave_one_out", "per_index", "anchor"]))
def test_a_constant_added_to_every_turn_reward_changes_no_advantage(found: list[Any], kind: str):
    for member in found:
        for turn in member["turns"]:
            turn["format_ok"] = True
    credit = score(config(turns=[{"source": {"kind": "format"}, "normaliser": {"kind": kind}}]), *found)
    assert not any(flat(credit.turn_parts["format"]))


# -- refused configs


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({"source": {"kind": "pr_v2"}, "credit": {"kind": "return_to_go", "gamma": 0.9}}, "gamma = 0.9 with pr_v2"),
        ({"source": {"kind": "pr_v2", "terminal": "zero"}}, "control variate"),
        ({"source": {"kind": "tests"}, "gated": True}, "has no gate"),
        ({"source": {"kind": "tests"}, "normaliser": {"kind": "token_share"}}, "sums"),
        ({"source": {"kind": "testz"}}, "testz"),
        ({"source": {"kind": "tests", "aggregation": {"kind": "verpo", "alpha": float("nan")}}}, "alpha"),
    ],
)
def test_turn_channels_that_make_no_sense_are_refused(channel: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        config(turns=[channel])
    assert words in str(caught.value)


def test_facts_that_a_run_does_not_record_are_refused_at_start_by_name():
    with pytest.raises(RewardError, match=r"diagnostics \(for turns.pr_v2\), tests \(for turns.tests\)"):
        Recipe(recipe("all_gated")).require(())
    Recipe(recipe("all_gated")).require(("tests", "diagnostics"))


def test_a_confidence_that_is_no_number_is_refused():
    one = group({"outcome": "tests_fail", "turns": [{}]})[0]
    facts = one.turns[0].facts.model_copy(update={"confidence": float("nan")})
    broken = one.model_copy(update={"turns": (one.turns[0].model_copy(update={"facts": facts}),)})
    with pytest.raises(RewardError, match="confidence is nan"):
        Recipe(recipe("g_ra")).score([broken, one])


def test_one_group_holds_one_task():
    one = group({"outcome": "tests_fail", "turns": [{}]})[0]
    with pytest.raises(RewardError, match="one task"):
        Recipe(recipe("g_ra")).score([one, one.model_copy(update={"task": "other"})])


def test_a_recipe_that_reckons_with_fewer_turns_than_a_run_allows_is_refused_with_both_numbers():
    for name, change in (("verpo", {}), ("outcome", {"combination": {"kind": "clip_delta", "horizon": 16}})):
        made = Recipe(recipe(name, **change))
        made.require({"tests", "diagnostics"}, 16)
        with pytest.raises(RewardError, match=r"horizon = 16 is less than the 17 turns .* set it to 17"):
            made.require({"tests", "diagnostics"}, 17)
    Recipe(recipe("g_ra")).require(set(), 10_000)
