"""Lockstep: a batch starts when every live episode waits, and is a function of the requests alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.policy import PolicyError, Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask, Deliver, Wave


class Recorder:
    """Answers every request of a batch with its index and keeps the batches."""

    def __init__(self, fail: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.fail = fail

    def __call__(self, asks: Sequence[Ask], deliver: Deliver) -> None:
        self.batches.append([ask.key.sample for ask in asks])
        if self.fail:
            raise RuntimeError("no memory")
        for index in range(len(asks)):
            deliver(index, Sampled(ids=(index,), logprobs=(0.0,), text="", cut=True))


def key(sample: int) -> Key:
    return Key(seed=0, step=0, prompt=0, sample=sample)


def run(turns: Sequence[int], run: Recorder, pauses: Sequence[float]) -> list[Key]:
    """Episodes of these numbers of turns, the i-th after a pause before each turn; returns who left, in order."""
    left: list[Key] = []

    async def episode(wave: Wave, sample: int) -> None:
        for turn in range(turns[sample]):
            await asyncio.sleep(pauses[sample])
            await wave.ask(Ask((1,), key(sample), turn, 1))
        wave.leave(key(sample))

    async def all_of_them() -> None:
        with ThreadPoolExecutor(1) as executor:
            wave = Wave(len(turns), run, executor, left.append)
            await asyncio.gather(*(episode(wave, sample) for sample in range(len(turns))))

    asyncio.run(all_of_them())
    return left


@pytest.mark.parametrize("pauses", [(0, 0, 0), (0.02, 0, 0.01), (0, 0.03, 0)])
def test_batches_do_not_depend_on_who_asks_first(pauses: Sequence[float]) -> None:
    recorder = Recorder()
    run((2, 1, 3), recorder, pauses)
    assert recorder.batches == [[0, 1, 2], [0, 2], [2]]


def test_everybody_who_leaves_is_named_once() -> None:
    assert sorted(k.sample for k in run((2, 1, 3), Recorder(), (0, 0, 0))) == [0, 1, 2]


def test_an_engine_that_fails_is_a_policy_error() -> None:
    with pytest.raises(PolicyError, match="no memory"):
        run((1, 1), Recorder(fail=True), (0, 0))


def test_asking_twice_or_after_leaving_is_refused() -> None:
    async def twice() -> None:
        with ThreadPoolExecutor(1) as executor:
            wave = Wave(2, Recorder(), executor, lambda _: None)
            first = asyncio.ensure_future(wave.ask(Ask((1,), key(0), 0, 1)))
            await asyncio.sleep(0)
            with pytest.raises(ValueError, match="0-0-0-0"):
                await wave.ask(Ask((1,), key(0), 1, 1))
            wave.leave(key(1))
            await first
            with pytest.raises(ValueError, match="after it left"):
                await wave.ask(Ask((1,), key(1), 0, 1))

    asyncio.run(twice())
