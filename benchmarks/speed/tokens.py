"""Sampled and trained tokens a second, of the machine that the quickstart trains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent.policy import Policy, Sampled
from agent.trajectory import Key
from benchmarks.speed.measure import Clock, Measured, rate
from trainers.components import Machine, Wave
from trainers.protocol import Row

GROUP, PROMPT, NEW = 8, 240, 48
"""Samples of one prompt; tokens of the prompt; tokens sampled at most."""


def measure(runs: int, make: Callable[[], Machine], name: str) -> list[Measured]:
    """Sampling and learning on groups of :data:`GROUP`; each run is two groups."""
    machine = make()
    try:
        sampled, rows = asyncio.run(_sample(machine, runs))
        trained = list[Clock]()
        for batch in rows:
            began = Clock.now()
            machine.learner.update(batch)
            trained.append(began.since())
    finally:
        machine.engine.close()
    amounts = [float(sum(sum(row.mask) for row in batch)) for batch in rows]
    shape = f"{name}, 2 groups of {GROUP}, prompt {PROMPT}, at most {NEW} new"
    whole = [float(sum(len(row.ids) for row in batch)) for batch in rows]
    return [
        *_rates("sampled tokens", amounts, sampled, shape),
        *_rates("trained tokens (sampled positions)", amounts, trained, shape),
        *_rates("trained tokens (whole rows)", whole, trained, shape),
    ]


def _rates(name: str, amounts: Sequence[float], spent: Sequence[Clock], note: str) -> list[Measured]:
    """By the wall and by CPU seconds: the second says more when neighbours are busy."""
    return [
        rate(name, "tokens/s", amounts, [one.wall for one in spent], note),
        rate(name, "tokens/CPU-s", amounts, [one.cpu for one in spent], note),
    ]


async def _sample(machine: Machine, runs: int) -> tuple[list[Clock], list[list[Row]]]:
    seconds, rows = list[Clock](), list[list[Row]]()
    for run in range(runs):
        began = Clock.now()
        keys = [Key(seed=0, step=run, prompt=prompt, sample=s) for prompt in (0, 1) for s in range(GROUP)]
        wave = machine.wave(len(keys), 1.0) if machine.wave else None
        policy = wave.policy if wave else machine.engine.policy(temperature=1.0)
        samples = await asyncio.gather(*(_turn(policy, key, wave) for key in keys))
        seconds.append(began.since())
        rows.append([_row(key, sample) for key, sample in zip(keys, samples, strict=True)])
    return seconds, rows


async def _turn(policy: Policy, key: Key, wave: Wave | None) -> Sampled:
    """The only turn of an episode; a wave waits for whoever does not say that it ended."""
    try:
        return await policy.sample(_prompt(key), key, 0, NEW)
    finally:
        if wave:
            wave.leave(key)


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
