"""Advantages against numbers of verl 0.9.1 (float32), four digits where it prints four."""

from __future__ import annotations

from dataclasses import replace
from itertools import batched
from math import cos
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dojo.config import Config
from rewards.normalise.leave_one_out import LeaveOneOut
from rewards.normalise.mean_std import MeanStd
from rewards.normalise.statistics import degenerate
from trainers.config import ReinforcePlusPlus
from trainers.estimators.gae import gae
from trainers.estimators.reinforce import estimated
from trainers.estimators.whiten import whitened
from trainers.protocol import Row

MASKS = [[c == "1" for c in row] for row in ("111111", "111000", "110110", "100000")]
REWARDS = [[0.0] * 6 for _ in range(4)]
REWARDS[0][5], REWARDS[1][2], REWARDS[2][1], REWARDS[2][4], REWARDS[3][0] = 1.0, 0.5, 0.25, 1.0, -1.0
VALUES = [[0.5 * cos(t - i) * m for t, m in enumerate(mask)] for i, mask in enumerate(MASKS)]
ZEROS = [[0.0] * 6 for _ in range(4)]
RETURNS = [[0.59049, 0.6561, 0.729, 0.81, 0.9, 1], [0.405, 0.45, 0.5], [0.954, 1.06, 0.9, 1], [-1]]
WHITE = [
    [-0.0945, 0.0317, 0.1720, 0.3279, 0.5012, 0.6936],
    [-0.4515, -0.3649, -0.2687],
    [0.6051, 0.8091, 0.5012, 0.6936],
    [-3.1557],
]
GAE_RETURNS = [
    [0.1539, 0.1462, 0.2550, 0.4780, 0.7455, 1],
    [0.3842, 0.4086, 0.5],
    [0.6175, 0.7901, 0.6825, 1],
    [-1],
]
GAE_WHITE = [
    [-1.3732, -0.9647, 0.1147, 1.0522, 1.2349, 0.8411],
    [-0.5271, -0.9048, -0.3142],
    [0.7811, 0.2192, 0.0215, 1.4845],
    [-1.6653],
]
Table = list[list[float]]


def sampled(grid: Table) -> Table:
    """Without the tokens that were not sampled."""
    return [[x for x, m in zip(row, mask, strict=True) if m] for row, mask in zip(grid, MASKS, strict=True)]


def white(grid: Table) -> Table:
    flat = iter(whitened([x for row in sampled(grid) for x in row]))
    return [[next(flat) for m in mask if m] for mask in MASKS]


def over(values: Table, gamma: float, decay: float) -> tuple[Table, Table]:
    """Advantages and returns of the four rows."""
    found = [gae(*row, gamma, decay) for row in zip(REWARDS, values, MASKS, strict=True)]
    return [one.advantages for one in found], [one.returns for one in found]


def results() -> dict[str, Table]:
    """Every estimator's numbers, computed now."""
    advantages, returns = over(VALUES, 0.9, 0.8)
    reinforce = over(ZEROS, 0.9, 1.0)[1]
    groups = [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    return {
        "GRPO, mean and std": [[0.0] * 4 if degenerate(g) else MeanStd().trajectories(g) for g in groups],
        "RLOO, leave one out": [LeaveOneOut().trajectories(g) for g in groups],
        "REINFORCE++ returns, gamma 0.9": sampled(reinforce),
        "REINFORCE++ advantages, whitened": white(reinforce),
        "GAE returns, gamma 0.9, lambda 0.8": sampled(returns),
        "GAE advantages, whitened": white(advantages),
    }


@pytest.mark.parametrize(
    ("name", "wanted", "tolerance"),
    [
        ("GRPO, mean and std", [[0.8660239, -0.8660239, -0.8660239, 0.8660239], [0.0] * 4], 1e-6),
        ("RLOO, leave one out", [[0.6666667, -0.6666667, -0.6666667, 0.6666667], [0.0] * 4], 1e-6),
        ("REINFORCE++ returns, gamma 0.9", RETURNS, 1e-6),
        ("REINFORCE++ advantages, whitened", WHITE, 6e-5),
        ("GAE returns, gamma 0.9, lambda 0.8", GAE_RETURNS, 6e-5),
        ("GAE advantages, whitened", GAE_WHITE, 6e-5),
    ],
)
def test_golden_advantages(name: str, wanted: Table, tolerance: float) -> None:
    found = results()[name]
    assert [len(row) for row in found] == [len(row) for row in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=tolerance)


def test_a_reward_on_a_token_that_was_not_sampled_raises() -> None:
    with pytest.raises(ValueError, match="last sampled token"):
        gae([0.0, 1.0], [0.0, 0.0], [True, False], 0.9, 1.0)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8), st.floats(-2, 2))
def test_values_that_are_equal_whiten_to_nothing_and_a_shift_changes_nothing(values: list[float], by: float) -> None:
    assert whitened([by] * len(values)) == [0.0] * len(values)
    ours, moved = whitened(values), whitened([v + by for v in values])
    if max(values) - min(values) > 1e-3:
        assert moved == pytest.approx(ours, abs=1e-6)
        assert sum(ours) == pytest.approx(0, abs=1e-9)


def row(rollout: str, mask: str, advantage: float) -> Row:
    on = tuple(c == "1" for c in mask)
    return Row((1,) * len(on), on, (-1.0,) * len(on), tuple(advantage * m for m in on), rollout, "g")


def test_reinforce_discounts_by_sampled_tokens_over_all_rows_of_a_rollout_as_an_invariance() -> None:
    config = ReinforcePlusPlus(gamma=0.5)
    whole = estimated(config, [row("a", "0110010", 1.0), row("b", "010", -1.0)])
    parts = estimated(config, [row("b", "010", -1.0), row("a", "0110", 1.0), row("a", "0001000", 1.0)])
    tokens = [a for part in parts[1:] for a, m in zip(part.advantages, part.mask, strict=True) if m]
    assert tokens == [a for a, m in zip(whole[0].advantages, whole[0].mask, strict=True) if m]
    assert tokens == pytest.approx(whitened([0.25, 0.5, 1.0, -1.0])[:3])
    assert whole[0].advantages[0] == whole[0].advantages[3] == 0.0


def test_credit_by_turn_is_refused_by_the_estimator_and_before_a_run() -> None:
    mixed = replace(row("a", "0101", 1.0), advantages=(0.0, 1.0, 0.0, 0.5))
    with pytest.raises(ValueError, match="different advantage by turn"):
        estimated(ReinforcePlusPlus(), [mixed])
    given_turns = {"turns": [{"source": {"kind": "format"}}]}
    with pytest.raises(ValueError, match=r"unset loss\.estimator"):
        Config.model_validate({"rewards": given_turns, "loss": {"estimator": {"kind": "reinforce++"}}})


PAGE = Path(__file__).parents[2] / "docs/losses.md"


def table() -> str:
    """As Markdown."""
    lines = ["| estimator | row 0 | row 1 | row 2 | row 3 |", "|---|---|---|---|---|"]
    for name, grid in results().items():
        cells = [" ".join(f"{x:.4f}" for x in row) for row in grid]
        lines += ["| " + " | ".join([name, *part, *[""] * (4 - len(part))]) + " |" for part in batched(cells, 4)]
    return "\n".join(lines)


def test_the_page_of_losses_shows_the_estimators_as_they_are_computed_now() -> None:
    assert table() in PAGE.read_text(), f"print it with 'python {Path(__file__).name}' and put it into {PAGE.name}"


if __name__ == "__main__":
    print(table())
