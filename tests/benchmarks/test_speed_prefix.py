"""The measurement of a shared prompt: turns of equal length, and the same prompt either way."""

from __future__ import annotations

import asyncio

from agent.trajectory import Key
from benchmarks.speed import prefix
from trainers.config import ModelConfig
from trainers.engines.transformers import TransformersEngine
from trainers.model.load import tiny


def test_turns_of_the_measurement_never_end_before_their_limit() -> None:
    engine = TransformersEngine(prefix.replace_tokenizer(tiny()))
    sampled = asyncio.run(
        engine.policy(temperature=5.0).sample((1, 2, 3), Key(seed=0, step=0, prompt=0, sample=0), 0, 700)
    )
    engine.close()
    assert len(sampled.ids) == 700 and tiny().tokenizer.im_end in sampled.ids


def test_both_ways_are_measured_and_compared() -> None:
    once, each, times = prefix.measure(1, ModelConfig(name="tiny"), "tiny")
    assert len(once.runs) == len(each.runs) == len(times.runs) == 1
    assert times.runs[0] == each.runs[0] / once.runs[0]
