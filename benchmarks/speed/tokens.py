"""Sampled and trained tokens a second, of the machine that the quickstart trains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from agent.policy import Sampled
from agent.trajectory import Key
from benchmarks.speed.measure import Measured, rate
from trainers.components import Machine
from trainers.protocol import Row

GROUP, PROMPT, NEW = 8, 240, 48
"""Samples of one prompt; tokens of the prompt; tokens sampled at most."""


def measure(runs: int, make: Callable[[], Machine], name: str) -> list[Measured]:
    """Sampling and learning on groups of :data:`GROUP`; each run is two groups."""
    machine = make()
    try:
        sampled, rows = asyncio.run(_sample(machine, runs))
        began, trained = time.perf_counter(), list[float]()
        for batch in rows:
            machine.learner.update(batch)
            trained.append(time.perf_counter() - began)
            began = time.perf_counter()
    finally:
        machine.engine.close()
    amounts = [float(sum(sum(row.mask) for row in batch)) for batch in rows]
    shape = f"{name}, 2 groups of {GROUP}, prompt {PROMPT}, at most {NEW} new"
    whole = [float(sum(len(row.ids) for row in batch)) for batch in rows]
    return [
        rate("sampled tokens", "tokens/s", amounts, sampled, shape),
        rate("trained tokens (sampled positions)", "tokens/s", amounts, trained, shape),
        rate("trained tokens (whole rows)", "tokens/s", whole, trained, shape),
    ]


async def _sample(machine: Machine, runs: int) -> tuple[list[float], list[list[Row]]]:
    seconds, rows = list[float](), list[list[Row]]()
    for run in range(runs):
        began = time.perf_counter()
        keys = [Key(seed=0, step=run, prompt=prompt, sample=s) for prompt in (0, 1) for s in range(GROUP)]
        wave = machine.wave(len(keys), 1.0) if machine.wave else None
        policy = wave.policy if wave else machine.engine.policy(temperature=1.0)
        samples = await asyncio.gather(*(policy.sample(_prompt(key), key, 0, NEW) for key in keys))
        seconds.append(time.perf_counter() - began)
        for key in keys if wave else ():
            assert wave is not None
            wave.leave(key)
        rows.append([_row(key, sample) for key, sample in zip(keys, samples, strict=True)])
    return seconds, rows


def _prompt(key: Key) -> Sequence[int]:
    """Token ids that any vocabulary of 258 or more has."""
    return [(7 * i + 13 * key.prompt + key.step) % 250 for i in range(PROMPT)]


def _row(key: Key, sample: Sampled) -> Row:
    size, prompt = len(sample.ids), _prompt(key)
    sign = 1.0 if key.sample % 2 else -1.0
    return Row(
        ids=(*prompt, *sample.ids),
        mask=(False,) * len(prompt) + (True,) * size,
        logprobs=(0.0,) * len(prompt) + sample.logprobs,
        advantages=(0.0,) * len(prompt) + (sign,) * size,
        rollout=str(key),
        group=f"{key.step}-{key.prompt}",
    )
