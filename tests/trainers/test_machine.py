"""Engine and learner on the same weights: what a checkpoint carries over is everything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.policy import Sampled
from agent.trajectory import Key
from trainers.components import Machine
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.machine import local_machine
from trainers.protocol import Row

PROMPT = tuple(b"fix this\n")


def machine(temperature: float = 1.0) -> Machine:
    optim, sft = OptimConfig(layers=2, lr=1e-2), SftConfig(examples=8, batch=2)
    return local_machine(ModelConfig(name="tiny"), optim, LossConfig(), sft, temperature=temperature)


def group(of: Machine, step: int, temperature: float = 1.0) -> list[Sampled]:
    assert of.wave is not None
    keys = [Key(seed=0, step=step, prompt=0, sample=s) for s in range(4)]

    async def sample() -> list[Sampled]:
        wave = of.wave(len(keys), temperature)
        return await asyncio.gather(*(wave.policy.sample(PROMPT, key, 0, 6) for key in keys))

    return asyncio.run(sample())


def rows(samples: Sequence[Sampled], credit: bool = True) -> list[Row]:
    zeros, out = (0.0,) * len(PROMPT), list[Row]()
    for index, sample in enumerate(samples):
        size = len(sample.ids)
        worth = float(sum(sample.ids) % 3 - 1) if credit else 0.0
        mask = (False,) * len(PROMPT) + (True,) * size
        out.append(Row(PROMPT + sample.ids, mask, zeros + sample.logprobs, zeros + (worth,) * size, f"{index}", "g"))
    return out


def steps(of: Machine, first: int, last: int) -> list[tuple[list[Sampled], float]]:
    done = list[tuple[list[Sampled], float]]()
    for step in range(first, last):
        samples = group(of, step)
        done.append((samples, of.learner.update(rows(samples))["grad_norm"]))
    return done


def test_a_resumed_machine_samples_and_learns_the_same_to_the_last_bit(tmp_path: Path) -> None:
    straight = machine()
    straight.learner.imitate(rows(group(straight, 99), credit=False))
    before = steps(straight, 0, 2)
    straight.learner.save(tmp_path)
    after = steps(straight, 2, 5)
    resumed = machine()
    resumed.learner.load(tmp_path)
    assert steps(resumed, 2, 5) == after
    assert any(norm > 0 for _, norm in before + after)
    straight.engine.close()
    resumed.engine.close()


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_the_first_update_finds_the_log_probabilities_that_the_sampler_recorded(temperature: float) -> None:
    """Sampler and trainer share weights and temperature: the ratio of a fresh sample is 1."""
    one = machine(temperature)
    numbers = one.learner.update(rows(group(one, 0, temperature)))
    one.engine.close()
    assert abs(numbers["ratio_max"] - 1) < 1e-4 and abs(numbers["ratio_min"] - 1) < 1e-4
    assert numbers["clip_share"] == 0 and numbers["kl"] < 1e-6


def test_a_sample_names_the_weights_that_drew_it() -> None:
    one = machine()
    first, _ = steps(one, 0, 1)[0]
    second = group(one, 1)
    one.engine.close()
    assert {sample.version for sample in first} == {0}
    assert {sample.version for sample in second} == {1}
