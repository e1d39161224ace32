"""A group's rollout with its prompt computed once, against every sample computing it for itself.

Same model, same engine, same batch of eight rows, same prompt of 1,024 tokens, 64 new tokens each (the end of a turn is
out of reach); runs are interleaved. Without sharing means that each sample is named as a group of its own. CPU-seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agent.chat import Tokenizer
from agent.trajectory import Key
from benchmarks.speed.measure import Clock, Measured, ratio
from trainers.config import ModelConfig
from trainers.engines.transformers import TransformersEngine
from trainers.model.load import Model, load

GROUP, PROMPT, NEW = 8, 1024, 64


class Endless:
    """A tokenizer whose turns never end by themselves: every sample has the same length."""

    im_end = -1

    def __init__(self, inner: Tokenizer) -> None:
        self.im_start = inner.im_start
        self._inner = inner

    def encode(self, text: str) -> Sequence[int]:
        return self._inner.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._inner.decode(ids)


def measure(runs: int, model: ModelConfig, name: str) -> list[Measured]:
    """CPU-seconds of both, and how many times sharing beats not sharing."""
    loaded = load(model)
    engine = TransformersEngine(replace_tokenizer(loaded), model.threads)
    spent: dict[bool, list[float]] = {True: [], False: []}
    try:
        for run in range(runs + 1):
            for shared in (True, False):
                seconds = asyncio.run(_rollout(engine, run, shared))
                if run:  # the first one lays out weights and grows buffers
                    spent[shared].append(seconds)
    finally:
        engine.close()
    shape = f"{name}, group of {GROUP}, prompt {PROMPT}, {NEW} new"
    once = Measured("group rollout, prompt computed once", "CPU-s", tuple(spent[True]), shape)
    each = Measured("group rollout, prompt computed by each", "CPU-s", tuple(spent[False]), shape)
    return [once, each, ratio("group rollout with shared prompt", each, once)]


def replace_tokenizer(loaded: Model) -> Model:
    """The same network with turns that do not end."""
    return replace(loaded, tokenizer=Endless(loaded.tokenizer))


async def _rollout(engine: TransformersEngine, run: int, shared: bool) -> float:
    keys = [Key(seed=0, step=run, prompt=0 if shared else i, sample=i) for i in range(GROUP)]
    prompt = [(7 * i + run) % 250 for i in range(PROMPT)]  # ids that any vocabulary of 258 or more has
    wave = engine.wave(GROUP, 1.0)
    began = Clock.now()
    await asyncio.gather(*(wave.policy.sample(prompt, key, 0, NEW) for key in keys))
    spent = began.since().cpu
    for key in keys:
        wave.leave(key)
    return spent
