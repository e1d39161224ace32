"""The two rules of admission, alone and with the real scheduler on a fake clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trajectory import Key
from trainers.loop_config import TrainConfig
from trainers.rollout.admission import Admission
from trainers.rollout.simulate import Simulated, VirtualLoop, long_tailed, simulate

UPDATE = 60.0


def run(steps: int = 8, mode: str = "async", spread: float = 1.0, **given: Any) -> Simulated:
    config = {"mode": mode, "minutes": None, "steps": 10**6, "prompts": 42, "group": 8, "wave": 1008, "waves": 1}
    return simulate(TrainConfig.model_validate(config | given), steps, long_tailed(60, spread), UPDATE)


@settings(max_examples=30)
@given(data=st.data(), groups=st.integers(1, 4), staleness=st.integers(0, 3))
def test_no_group_is_ever_older_than_the_bound_whatever_finishes_first(
    data: st.DataObject, groups: int, staleness: int
) -> None:
    """An adversary decides what finishes; a step is made whenever the rule allows it."""
    rule, ready, flying = Admission(groups, staleness), list[int](), list[int]()
    for step in range(40):
        flying += [step] * rule.room(len(ready) + len(flying))
        assert len(ready) + len(flying) <= (staleness + 1) * groups
        while (chosen := rule.choose(step, ready, flying)) is None:
            assert flying, "the rule waits for nothing"
            ready.append(flying.pop(data.draw(st.integers(0, len(flying) - 1))))
        assert len(chosen) == groups and all(step - ready[index] <= staleness for index in chosen)
        ready = [start for index, start in enumerate(ready) if index not in chosen]
        flying += [step] * rule.room(len(ready) + len(flying) + groups)


def test_a_thousand_concurrent_long_tailed_episodes_stay_within_every_bound() -> None:
    seen = run(staleness=2)
    assert 900 < seen.live <= 1008
    assert max(seen.stale) == 2
    assert seen.outstanding <= 3 * 42
    assert sorted(seen.prompts)[: seen.frontier] == list(range(seen.frontier))
    assert len(set(seen.prompts)) == len(seen.prompts) == 8 * 42


def test_a_looser_bound_never_costs_throughput_and_two_updates_give_one_and_a_half_times_that_of_sync() -> None:
    sync, one, two = (run(steps=5, mode=mode).seconds for mode in ("sync", "one-step-off", "async"))
    assert sync > one > two
    assert sync / two > 1.5


def test_no_schedule_beats_its_updates_or_its_work() -> None:
    seen = run(staleness=3, spread=0.1)
    assert seen.seconds >= 8 * UPDATE
    assert seen.seconds * seen.live >= seen.work
    assert seen.seconds < 1.2 * (8 * UPDATE + 60), "with equal lengths the updates are all that takes time"


def test_fewer_sandboxes_than_the_rule_allows_are_never_exceeded() -> None:
    seen = run(steps=4, staleness=2, wave=96, waves=2)
    assert seen.live <= 192
    assert seen.seconds * 192 >= seen.work


def test_sync_mode_is_the_bound_zero_of_the_same_rule() -> None:
    seen = run(steps=4, mode="sync")
    assert seen.stale == [0.0] * 4 and seen.outstanding == 42 and seen.prompts == sorted(seen.prompts)


def test_spare_samples_are_cut_when_enough_have_finished() -> None:
    plain, spare = run(steps=4, prompts=20), run(steps=4, prompts=20, spare=2)
    assert spare.cut == 2 * 20 * 4
    assert spare.seconds < plain.seconds


def test_an_episode_beyond_its_deadline_is_abandoned_and_its_group_goes_on() -> None:
    plain, bounded = run(steps=4, prompts=20), run(steps=4, prompts=20, deadline=120.0)
    assert bounded.late > 0 and plain.late == 0
    assert bounded.seconds < 4 * (120 + UPDATE) < plain.seconds


def test_groups_without_contrast_are_replaced_up_to_the_limit() -> None:
    without, filled = (run(steps=4, group=2, wave=500, prompts=20, fill=fill) for fill in (None, 100))
    assert len(without.prompts) == 4 * 20
    assert len(filled.prompts) > 1.5 * 4 * 20, "half of the pairs agree by chance"
    assert len(run(steps=4, group=2, wave=500, prompts=20, fill=3).prompts) <= 4 * 23


@settings(max_examples=5)
@given(prompts=st.integers(1, 5), staleness=st.integers(1, 4), spread=st.floats(0.1, 2.5))
def test_every_prompt_is_used_once_and_in_time_for_any_shape(prompts: int, staleness: int, spread: float) -> None:
    seen = run(steps=6, prompts=prompts, staleness=staleness, spread=spread, group=2, wave=16)
    assert max(seen.stale) <= staleness
    assert len(set(seen.prompts)) == len(seen.prompts) == 6 * prompts


def test_virtual_time_passes_without_waiting_and_a_deadlock_is_told() -> None:
    async def sleep() -> float:
        await asyncio.sleep(36_000)
        return asyncio.get_running_loop().time()

    async def forever() -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(sleep()) == pytest.approx(36_000)
    assert time.monotonic() - began < 3600
    with (
        pytest.raises(RuntimeError, match="deadlocked"),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(forever())


def test_lengths_are_a_function_of_the_key_with_the_mean_that_was_asked_for() -> None:
    length = long_tailed(60)
    found = [length(Key(seed=0, step=0, prompt=p, sample=s)) for p in range(200) for s in range(8)]
    assert sum(found) / len(found) == pytest.approx(60, rel=0.1)
    assert max(found) > 6 * 60 and found[0] == length(Key(seed=0, step=0, prompt=0, sample=0))
