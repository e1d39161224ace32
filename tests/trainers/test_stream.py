"""Continuous batches in virtual time: who shares a step depends on the episodes' tokens, never on how long
commands take."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy import PolicyError, Sampled
from agent.trajectory import Key
from trainers.engines.batcher import Ask
from trainers.engines.stream import LAG, Deliver, Progress, Stream

Lengths = Sequence[Sequence[int]]
"""Tokens of each turn of each episode."""


def key(sample: int) -> Key:
    return Key(seed=0, step=0, prompt=0, sample=sample)


class Decoder:
    """Decodes rows of given lengths and keeps who was active at each step."""

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self.trace: dict[int, list[int]] = {}
        self.left: list[int] = []
        self._rows: dict[int, int] = {}

    async def __call__(self, asks: Sequence[Ask], step: int, until: int | None, deliver: Deliver) -> Progress:
        await asyncio.sleep(0)
        self._rows |= {ask.key.sample: self.lengths[ask.key.sample][ask.turn] for ask in asks}
        back: Mapping[Key, int] = {}
        while self._rows and (until is None or step < until):
            self.trace[step] = sorted(self._rows)
            step += 1
            for sample in [s for s, left in self._rows.items() if left == 1]:
                back = {**back, key(sample): step + LAG}
                until = step + LAG if until is None else min(until, step + LAG)
                deliver(key(sample), Sampled(ids=(1,), logprobs=(0.0,), text="", cut=True))
            self._rows = {s: left - 1 for s, left in self._rows.items() if left > 1}
        return Progress(step, len(self._rows), dict(back))

    def drop(self, gone: Key) -> None:
        self.left.append(gone.sample)
        self._rows.pop(gone.sample, None)


def play(lengths: Lengths, pace: random.Random | None = None) -> Decoder:
    """All episodes, each with pauses of its own before each turn."""
    decoder = Decoder(lengths)

    async def episode(stream: Stream, sample: int) -> None:
        for turn in range(len(lengths[sample])):
            for _ in range(pace.randrange(6) if pace else 0):
                await asyncio.sleep(0)
            await stream.ask(Ask((1,), key(sample), turn, 1))
        stream.leave(key(sample))

    async def wave() -> None:
        stream = Stream(len(lengths), decoder, decoder.drop)
        async with asyncio.timeout(5):
            await asyncio.gather(*(episode(stream, sample) for sample in range(len(lengths))))

    asyncio.run(wave())
    return decoder


turns = st.lists(st.integers(1, 40), max_size=3)


@settings(max_examples=60)
@given(st.lists(turns, min_size=1, max_size=5), st.integers(0, 999))
def test_who_shares_a_step_does_not_depend_on_timing(lengths: list[list[int]], seed: int) -> None:
    calm, hasty = play(lengths), play(lengths, random.Random(seed))
    assert calm.trace == hasty.trace
    assert sorted(hasty.left) == list(range(len(lengths)))


@settings(max_examples=60)
@given(st.lists(turns, min_size=1, max_size=5))
def test_every_turn_is_decoded_once_and_comes_back_after_the_lag(lengths: list[list[int]]) -> None:
    trace = play(lengths).trace
    for sample, wanted in enumerate(lengths):
        steps = [step for step in sorted(trace) if sample in trace[step]]
        expected, at = list[int](), 0
        for length in wanted:
            expected += range(at, at + length)
            at += length + LAG
        assert steps == expected


def test_nobody_waits_for_the_longest_turn() -> None:
    """In lockstep the second turn of episode 0 would begin at step 100."""
    trace = play([[5, 5], [100]]).trace
    assert trace[5 + LAG] == [0, 1]
    assert max(trace) == 99


def test_an_engine_that_fails_is_a_policy_error_now_and_later() -> None:
    async def broken(*_: object) -> Progress:
        raise RuntimeError("no memory")

    async def twice() -> None:
        stream = Stream(2, broken, lambda _: None)
        asks = (stream.ask(Ask((1,), key(sample), 0, 1)) for sample in range(2))
        errors = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(error) for error in errors] == [PolicyError, PolicyError]
        with pytest.raises(PolicyError, match="no memory"):
            await stream.ask(Ask((1,), key(0), 1, 1))

    asyncio.run(twice())


def test_leaving_in_the_middle_of_a_turn_frees_the_others() -> None:
    decoder = Decoder([[10, 10], [1000]])

    async def wave() -> None:
        stream = Stream(2, decoder, decoder.drop)
        long = asyncio.ensure_future(stream.ask(Ask((1,), key(1), 0, 1)))
        await stream.ask(Ask((1,), key(0), 0, 1))
        long.cancel()
        stream.leave(key(1))
        await stream.ask(Ask((1,), key(0), 1, 1))
        stream.leave(key(0))

    asyncio.run(wave())
    assert decoder.trace[10 + LAG][0] == 0


def test_asking_twice_or_after_leaving_is_refused() -> None:
    async def refused() -> None:
        decoder = Decoder([[1], [1]])
        stream = Stream(2, decoder, decoder.drop)
        first = asyncio.ensure_future(stream.ask(Ask((1,), key(0), 0, 1)))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="0-0-0-0"):
            await stream.ask(Ask((1,), key(0), 1, 1))
        stream.leave(key(1))
        await first
        with pytest.raises(ValueError, match="after it left"):
            await stream.ask(Ask((1,), key(1), 0, 1))

    asyncio.run(refused())
