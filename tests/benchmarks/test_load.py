"""The report of the load says whether it held: failures, leaks, memory of each kind over the time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.load import DRIVER, KINDS, Sample, flat, kind_of, report

TURNS = [5] * 64


def samples(grows: str = "", by: float = 0.0) -> list[Sample]:
    kinds = (*KINDS, DRIVER)
    return [{kind: [10.0 + (by * at / 8 if kind == grows else 0.0)] for kind in kinds} for at in range(9)]


def test_of_64_sandboxes_16_edit_and_8_ask_a_language_server() -> None:
    kinds = [kind_of(number) for number in range(64)]
    assert [kinds.count(kind) for kind in KINDS] == [40, 16, 8]


def test_a_run_without_failure_leak_or_growth_is_good_and_says_the_memory_of_each_kind() -> None:
    lines, good = report(TURNS, samples(), [], 0)
    assert good and "| language server | 10.0 | 10.0 | 10.0 | yes |" in lines
    assert "* shell: 40 sandboxes, 200 turns, median 5 and least 5 of a sandbox" in lines


@pytest.mark.parametrize(
    ("turns", "taken", "failures", "left"),
    [
        (TURNS, samples("editor", 6.0), [], 0),
        (TURNS, samples(DRIVER, 6.0), [], 0),
        (TURNS, samples(), ["shell 3: SandboxError: gone"], 0),
        (TURNS, samples(), [], 1),
        ([*TURNS[:-1], 0], samples(), [], 0),
    ],
    ids=["a kind grows", "the driver grows", "a failure", "a leak", "an agent that never had a turn"],
)
def test_whatever_does_not_hold_fails_the_run(
    turns: Sequence[int], taken: Sequence[Sample], failures: Sequence[str], left: int
) -> None:
    assert not report(turns, taken, failures, left)[1]


def test_memory_that_settles_is_flat_and_memory_that_climbs_is_not() -> None:
    assert flat([9.0, 9.5, 10.0, 10.2, 10.1, 10.2]) and flat([100.0, 104.0, 108.0])
    assert not flat([9.0, 10.0, 11.0, 12.0, 13.0, 14.0]) and not flat([100.0, 107.0, 114.0])
