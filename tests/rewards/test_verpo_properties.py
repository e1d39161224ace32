"""Engineering properties of VeRPO's weights (rewards.md, section 2.6) and of the other aggregations."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hands import explain, flat, group, recipe, score, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards import kernels
from rewards.aggregate.difficulty import Difficulty
from rewards.aggregate.f2p import FixedUnbroken
from rewards.aggregate.pass_rate import PassRate
from rewards.aggregate.ssl import Tiers
from rewards.aggregate.verpo import Verpo
from rewards.errors import RewardError
from rewards.facts import Grades, Suite
from rewards.recipe import Recipe

tables = st.integers(1, 7).flatmap(lambda width: st.lists(vectors(width), min_size=2, max_size=7))
few = settings(max_examples=60)


def grades(rows: list[str]) -> Grades:
    names = tuple(f"t{j}" for j in range(len(rows[0])))
    return Grades(names, tuple(rows), tuple((i, 0) for i in range(len(rows))))


@few
@given(tables)
def test_without_difficulty_and_with_a_wide_kernel_it_is_the_pass_rate(rows: list[str]):
    wide = Verpo(alpha=0.0, sigma=1e9, delta=1e-9).values(grades(rows), None)
    assert wide == pytest.approx(PassRate().values(grades(rows), None), abs=1e-8)


@few
@given(tables)
def test_a_wide_kernel_leaves_the_difficulty_weight(rows: list[str]):
    wide = Verpo(sigma=1e9, delta=1e-9).values(grades(rows), None)
    assert wide == pytest.approx(Difficulty().values(grades(rows), None), abs=1e-8)


@few
@given(tables, st.data())
def test_a_narrow_kernel_pays_copies_of_a_test_as_one(rows: list[str], data: st.DataObject):
    narrow = Verpo(sigma=1e-6, delta=1e-12)
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    copied = [row + row[column] * 3 for row in rows]
    counts = kernels.passes(grades(rows).rows)
    if counts.count(counts[column]) > 1:
        return
    before, after = narrow.values(grades(rows), None), narrow.values(grades(copied), None)
    assert after == pytest.approx(before, abs=1e-8)


@few
@given(tables)
def test_tests_that_all_or_none_pass_cancel_in_the_advantage(rows: list[str]):
    """They add one constant to every turn and change the others' weights only through the kernel, here narrow."""
    aggregation = {"kind": "verpo", "sigma": 1e-6}
    turns = [recipe("verpo").turns[0].model_dump() | {"source": {"kind": "tests", "aggregation": aggregation}}]
    config = recipe("verpo", turns=turns)
    group = [{"outcome": "tests_fail", "turns": [{"tests": row}]} for row in rows]
    more = [{"outcome": "tests_fail", "turns": [{"tests": row + "1100"}]} for row in rows]
    if any(all(row[j] == rows[0][j] for row in rows) for j in range(len(rows[0]))):
        return
    assert flat(score(config, *more).turns) == pytest.approx(flat(score(config, *group).turns), abs=1e-5)


@few
@given(tables)
def test_never_passed_tests_pay_nothing_and_the_reward_is_bounded_by_the_weights(rows: list[str]):
    found = grades(rows)
    counts = kernels.passes(found.rows)
    weights = Verpo().weights(counts, len(rows))
    assert all(0.0 <= value <= sum(weights[k] for k in counts) + 1e-12 for value in Verpo().values(found, None))
    zero = [value for row, value in zip(rows, Verpo().values(found, None), strict=True) if "1" not in row]
    assert not any(zero)


@few
@given(st.lists(st.lists(vectors(4), min_size=1, max_size=4), min_size=2, max_size=4), st.data())
def test_turn_advantages_sum_to_zero_and_so_do_trajectory_advantages(rows: list[list[str]], data: st.DataObject):
    outcomes = data.draw(
        st.lists(st.sampled_from(["tests_fail", "tests_pass"]), min_size=len(rows), max_size=len(rows))
    )
    group = [
        {"outcome": outcome, "turns": [{"tests": test} for test in turns]}
        for outcome, turns in zip(outcomes, rows, strict=True)
    ]
    credit = score(recipe("verpo"), *group)
    assert sum(credit.trajectory) == pytest.approx(0.0, abs=1e-12)
    assert sum(flat(credit.turn_parts["tests"])) == pytest.approx(0.0, abs=1e-12)


def test_a_crash_counts_as_an_attempt_that_passes_nothing():
    crash, other = {"tests": "0000"}, {"tests": "1100"}
    group = [{"outcome": "tests_fail", "turns": [crash, other]}, {"outcome": "tests_fail", "turns": [other]}]
    account = explain(recipe("verpo"), *group)
    assert kernels.passes(account.group.grades.rows) == [2, 2, 0, 0] and len(account.group.grades.rows) == 3
    assert account.turn_rewards["tests"][0][0] == 0.0


@few
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter_to_the_last_bit(rows: list[str], shuffler: Any):
    order = list(range(len(rows[0])))
    shuffler.shuffle(order)
    shuffled = ["".join(row[j] for j in order) for row in rows]
    assert Verpo().values(grades(shuffled), None) == Verpo().values(grades(rows), None)


@few
@given(tables, st.floats(0.01, 2.0))
def test_plain_python_and_numpy_agree_to_the_last_bit(rows: list[str], sigma: float):
    numpy = pytest.importorskip("numpy")
    packed = grades(rows).rows
    counts = kernels.passes(packed)
    assert counts == [column.count("1") for column in zip(*rows, strict=True)]
    weights = Verpo(sigma=sigma).weights(counts, len(rows))
    plain = kernels._weighted_plain(packed, counts, weights)
    assert plain == kernels._weighted_numpy(numpy, packed, counts, weights)
    histogram = {k: counts.count(k) for k in set(counts)}
    levels = sorted(histogram)
    table = [math.exp(-((gap / len(rows)) ** 2) / (2 * sigma * sigma)) for gap in range(len(rows) + 1)]
    plain = kernels._density_plain(levels, histogram, table)
    assert plain == kernels._density_numpy(numpy, levels, histogram, table)


@few
@given(tables, st.lists(st.floats(0, 1e3), min_size=8, max_size=8))
def test_a_weighted_sum_is_the_exact_one_rounded(rows: list[str], weights: list[float]):
    counts = kernels.passes(rows)
    found = kernels.weighted(rows, counts, dict(enumerate(weights)))
    for row, value in zip(rows, found, strict=True):
        exact = math.fsum(weights[k] for k, digit in zip(counts, row, strict=True) if digit == "1")
        assert value == pytest.approx(exact, rel=1e-15, abs=1e-20 * max(weights) + 1e-250)


def test_a_large_group_gives_the_same_bits_by_either_path():
    pytest.importorskip("numpy")
    rng = random.Random(3)
    rows = tuple("".join("01"[rng.random() < (j + 1) / 81] for j in range(80)) for _ in range(600))
    assert len(rows) * 80 >= kernels.LARGE
    counts = kernels.passes(rows)
    assert counts == [column.count("1") for column in zip(*rows, strict=True)] and max(counts) > 510
    weights = Verpo().weights(counts, len(rows))
    assert kernels.weighted(rows, counts, weights) == kernels._weighted_plain(rows, counts, weights)


@few
@given(tables)
def test_tiers_take_few_values_and_grow_with_the_tests(rows: list[str]):
    tiers = Tiers(alpha=0.2)
    values = tiers.values(grades([*rows, "1" * len(rows[0])]), None)
    allowed = [0.2 * k / 4 for k in range(5)]
    assert all(min(abs(value - level) for level in allowed) < 1e-12 for value in values)
    assert values[-1] == pytest.approx(0.2)


def test_f2p_pays_for_what_was_fixed_less_what_was_broken():
    suite = Suite(("t0", "t1"), ("t2", "t3"))
    values = FixedUnbroken().values(grades(["0011", "1011", "1111", "1110", "1100"]), suite)
    assert values == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert FixedUnbroken(power=2.0).values(grades(["1110"]), suite) == [0.25]


def test_f2p_without_the_two_lists_is_refused_by_name():
    with pytest.raises(RewardError, match="F2P"):
        FixedUnbroken().values(grades(["11"]), None)
    with pytest.raises(RewardError, match="not graded, among them t9"):
        FixedUnbroken().values(grades(["11"]), Suite(("t9",), ("t0",)))


def test_attempts_graded_on_different_tests_are_refused():
    with pytest.raises(ValidationError, match="equally long"):
        score(recipe("verpo"), {"outcome": "tests_fail", "turns": [{"tests": "1"}, {"tests": "11"}]})
    one, two = group(*[{"outcome": "tests_fail", "turns": [{"tests": "10"}]}] * 2)
    with pytest.raises(RewardError, match=r"sample 1: .* different tests \(t1\)"):
        Recipe(recipe("verpo")).score([one, two.model_copy(update={"tests": ("t0", "t2")})])
    with pytest.raises(RewardError, match="2 grades of 3 tests"):
        Recipe(recipe("verpo")).score([t.model_copy(update={"tests": ("t0", "t1", "t2")}) for t in (one, two)])


def test_the_order_in_which_tests_were_listed_does_not_matter():
    one, two, three = group(*({"outcome": "tests_fail", "turns": [{"tests": t}]} for t in ("100", "110", "111")))
    turn = two.turns[0]
    facts = turn.facts.model_copy(update={"tests": "011"})
    turned = turn.model_copy(update={"facts": facts})
    other = two.model_copy(update={"tests": ("t2", "t1", "t0"), "turns": (turned,)})
    scorer = Recipe(recipe("verpo"))
    assert scorer.score([one, two, three]) == scorer.score([one, other, three])


def test_an_attempt_without_grades_is_refused_by_name():
    changed = {"outcome": "tests_fail", "turns": [{"tree": "a"}]}
    with pytest.raises(RewardError, match="sample 0, turn 0: the attempt was not graded"):
        score(recipe("verpo"), changed, changed)


@pytest.mark.parametrize("edges", [(), (0.5, 0.25), (0.0, 0.5), (0.5, 1.5)])
def test_tiers_that_do_not_ascend_within_zero_and_one_are_refused(edges: tuple[float, ...]):
    with pytest.raises(ValidationError, match="tier edges"):
        Tiers(edges=edges)
