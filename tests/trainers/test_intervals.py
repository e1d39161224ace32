"""Intervals against examples worked by hand, and properties."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.record.statistics import difference, rate, student

clusters = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.lists(st.booleans(), min_size=1, max_size=5))


def test_a_rate_and_its_interval_agree_with_a_computation_by_hand() -> None:
    # Four tasks with 2, 1, 0, 1 successes of 2: p = 4/8. Residuals y - p m = 1, 0, -1, 0.
    # V = 4/3 * (1 + 1) / 64 = 1/24, effective n = 0.25 * 24 = 6, t(3) = 3.182446.
    found = rate({"a": [True, True], "b": [True, False], "c": [False, False], "d": [False, True]})
    t, n = 3.182446, 6.0
    half = t / (1 + t * t / n) * sqrt(0.25 / n + t * t / (4 * n * n))
    assert found and found.value == 0.5 and (found.n, found.clusters) == (8, 4)
    assert found.low == pytest.approx(0.5 - half) and found.high == pytest.approx(0.5 + half)


def test_a_paired_difference_agrees_with_a_computation_by_hand() -> None:
    # Differences 0.5, 0, 1: mean 0.5, standard deviation 0.5, half width 4.302653 * 0.5 / sqrt(3).
    before = {"a": [False, False], "b": [True], "c": [False], "only before": [True]}
    after = {"a": [True, False], "b": [True], "c": [True, True], "only after": [False]}
    found = difference(before, after)
    assert found and found.value == pytest.approx(0.5) and found.clusters == 3
    assert found.low == pytest.approx(0.5 - 4.302653 * 0.5 / sqrt(3)) and found.high == 1.0


def test_samples_that_repeat_within_a_task_do_not_narrow_the_interval() -> None:
    once = rate({str(i): [i < 3] for i in range(10)})
    thrice = rate({str(i): [i < 3] * 3 for i in range(10)})
    assert once and thrice and (once.low, once.high) == pytest.approx((thrice.low, thrice.high))


def test_nothing_resolved_still_has_a_width() -> None:
    found = rate({str(i): [False, False] for i in range(40)})
    assert found and found.low == 0 and 0.05 < found.high < 0.15


@given(clusters)
def test_a_rate_lies_in_its_interval_and_the_interval_in_the_unit_interval(samples: dict[str, list[bool]]) -> None:
    found = rate(samples)
    if found:
        assert 0 <= found.low <= found.value + 1e-12 and found.value <= found.high + 1e-12 <= 1 + 1e-12
    else:
        assert not samples


@given(clusters)
def test_an_evaluation_against_itself_differs_by_zero(samples: dict[str, list[bool]]) -> None:
    found = difference(samples, samples)
    assert found is None or found.value == 0


@pytest.mark.parametrize(("df", "quantile"), [(4, 2.776445), (9, 2.262157), (39, 2.022691), (1000, 1.962339)])
def test_the_quantile_of_student_agrees_with_its_table(df: int, quantile: float) -> None:
    assert student(df) == pytest.approx(quantile, abs=2e-3)


def test_one_task_tells_nothing() -> None:
    found = rate({"a": [True, False]})
    assert found and (found.low, found.high) == (0.0, 1.0)
