"""The running average of the weights: its formula, its place in checkpoints, and the evaluation that uses it."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from agent.policy import Policy
from agent.trajectory import Key, Trajectory
from dojo.config import Config
from sandbox.task import Task
from trainers.components import Machine
from trainers.config import LossConfig, OptimConfig, SftConfig
from trainers.doubles import Game, TableEngine, TableLearner, components
from trainers.learning.learner import TransformersLearner
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.model.load import tiny
from trainers.protocol import Row
from trainers.rollout.evaluate import STEP

DECAY = 0.6
QUIET = Console(quiet=True)


def learner(ema: float | None = DECAY) -> TransformersLearner:
    return TransformersLearner(tiny(1), OptimConfig(layers=1, lr=1e-2, ema=ema), LossConfig(), SftConfig(), 0.8)


def rows(seed: int) -> list[Row]:
    chance, mask = random.Random(seed), (False, False, True, True, True)
    return [
        Row(
            ids=tuple(chance.choices(range(256), k=5)),
            mask=mask,
            logprobs=(0.0, 0.0, -5.5, -5.5, -5.5),
            advantages=(0.0, 0.0, credit, credit, credit),
            rollout=str(credit),
            group="g",
        )
        for credit in (1.0, -1.0)
    ]


def weights(of: TransformersLearner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in of.parameters.items()}


def test_the_average_is_the_weighted_sum_of_all_weights_since_the_first_step_and_sampling_does_not_see_it() -> None:
    one, plain = learner(), learner(None)
    one.imitate(rows(0))
    plain.imitate(rows(0))
    seen = [weights(one)]
    for seed in range(3):
        one.update(rows(seed))
        plain.update(rows(seed))
        seen.append(weights(one))
    shares = (DECAY**3, (1 - DECAY) * DECAY**2, (1 - DECAY) * DECAY, 1 - DECAY)
    for name, value in one.average.items():
        wanted = sum(share * found[name] for share, found in zip(shares, seen, strict=True))
        assert torch.allclose(value, torch.as_tensor(wanted), atol=1e-6)
        assert not torch.equal(value, seen[-1][name])
    assert all(torch.equal(value, one.parameters[name]) for name, value in weights(plain).items())


def test_an_evaluation_gets_the_average_and_learning_goes_on_from_the_weights() -> None:
    one = learner()
    one.update(rows(0))
    last = weights(one)
    with one.averaged():
        assert all(torch.equal(p, one.average[name]) for name, p in one.parameters.items())
    assert all(torch.equal(value, last[name]) for name, value in weights(one).items())


def test_before_the_first_step_there_is_nothing_to_average() -> None:
    one = learner()
    one.imitate(rows(0))
    last = weights(one)
    with one.averaged():
        assert all(torch.equal(p, last[name]) for name, p in one.parameters.items())


def test_a_step_that_is_thrown_away_does_not_move_the_average() -> None:
    one = learner()
    one.update(rows(0))
    before = {name: value.clone() for name, value in one.average.items()}
    broken = [Row((1, 2), (False, True), (0.0, -5.5), (0.0, float("inf")), "a", "g")]
    assert one.update(broken)["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in one.average.items())


def test_a_saved_average_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight, first, second = learner(), learner(), learner()
    for seed in range(4):
        straight.update(rows(seed))
    for seed in range(2):
        first.update(rows(seed))
    first.save(tmp_path)
    second.load(tmp_path)
    for seed in range(2, 4):
        second.update(rows(seed))
    assert straight.average.keys() == second.average.keys() != set()
    assert all(torch.equal(value, second.average[name]) for name, value in straight.average.items())


def test_a_run_evaluates_with_the_average_and_trains_without_it(tmp_path: Path) -> None:
    inside, found = [False], set[tuple[bool, bool]]()

    @contextmanager
    def averaged() -> Generator[None]:
        inside[0] = True
        yield
        inside[0] = False

    class Watched(Game):
        async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
            found.add((key.step == STEP, inside[0]))
            return await Game.play(self, task, policy, key, sampled)

    engine = TableEngine()
    machine = Machine(engine, TableLearner(engine), engine.wave, averaged)
    made = replace(components(game=Watched(), batches=1), machine=lambda: machine)
    config = TrainConfig.model_validate({"steps": 2, "minutes": None, "prompts": 2, "group": 4, "wave": 8})
    train(
        made,
        Settings(0, config, EvalConfig.model_validate({}), "seed = 0\n", picture=False),
        tmp_path / "run",
        console=QUIET,
    )
    assert found == {(True, True), (False, False)}


@pytest.mark.parametrize(
    "other", [{"engine": "vllm"}, {"scale": {"gpus": 2, "parallel": "fsdp2"}}], ids=["vllm", "fsdp2"]
)
def test_an_average_that_nothing_could_be_sampled_with_is_refused(other: dict[str, object]) -> None:
    given = {name: {"kind": value} if name == "engine" else value for name, value in other.items()}
    with pytest.raises(ValidationError, match=r"unset optim\.ema"):
        Config.model_validate({"optim": {"ema": 0.9}, **given})
