"""The order of the warm start: everything once an epoch, about equal lengths together, a function of the seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import End, Facts, Key, Trajectory, Turn
from trainers.config import SftConfig
from trainers.learning.sft import Demonstrations, demonstration
from trainers.protocol import Row


def episodes(count: int) -> list[list[Row]]:
    lengths = [3 + (i * 7) % 11 for i in range(count)]
    return [
        [Row((1,) * n, (False, *(True,) * (n - 1)), (0.0,) * n, (0.0,) * n, f"e{i}", f"t{i}")]
        for i, n in enumerate(lengths)
    ]


def names(warm: Demonstrations) -> list[list[str]]:
    return [[row.rollout for row in warm.batch(i)] for i in range(len(warm))]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 3))
def test_every_episode_comes_once_before_any_comes_twice(count: int, size: int, seed: int) -> None:
    warm = Demonstrations(episodes(count), SftConfig(examples=count, batch=size, window=8), seed)
    seen = Counter(name for batch in names(warm) for name in batch)
    assert max(seen.values()) == 1
    assert all(1 <= len(batch) <= size for batch in names(warm))


def test_the_order_is_a_function_of_the_seed() -> None:
    config = SftConfig(examples=24, batch=4)
    assert names(Demonstrations(episodes(24), config, 1)) == names(Demonstrations(episodes(24), config, 1))
    assert names(Demonstrations(episodes(24), config, 1)) != names(Demonstrations(episodes(24), config, 2))


def test_too_few_episodes_come_again_in_another_order() -> None:
    warm = Demonstrations(episodes(24), SftConfig(examples=48, batch=4, window=8), 0)
    assert len(warm) == 12
    first, second = names(warm)[:6], names(warm)[6:]
    assert {name for batch in first for name in batch} == {name for batch in second for name in batch}
    assert first != second


def test_episodes_of_a_batch_are_about_equally_long() -> None:
    warm = Demonstrations(episodes(64), SftConfig(examples=64, batch=8, window=64), 0)
    for i in range(len(warm)):
        lengths = [len(row.ids) for row in warm.batch(i)]
        assert max(lengths) - min(lengths) <= 3


def test_nothing_to_show_is_an_empty_warm_start() -> None:
    assert len(Demonstrations([], SftConfig(), 0)) == 0


def test_a_demonstration_masks_exactly_what_was_answered() -> None:
    facts = Facts(format_ok=True, tool_ok=True)
    turns = (
        Turn(prompt=(1, 2, 3), sampled=(4, 5), logprobs=(0.0, 0.0), text="a", facts=facts),
        Turn(prompt=(6,), sampled=(7,), logprobs=(0.0,), text="b", facts=facts),
    )
    played = Trajectory(
        task="t", key=Key(seed=0, step=0, prompt=0, sample=0), policy="gold", turns=turns, end=End.SUBMITTED
    )
    (row,) = demonstration(played)
    assert row.ids == (1, 2, 3, 4, 5, 6, 7)
    assert row.mask == (False, False, False, True, True, False, True)


def test_batches_outside_the_plan_do_not_exist() -> None:
    with pytest.raises(IndexError):
        Demonstrations(episodes(4), SftConfig(examples=4, batch=4), 0).batch(1)
