"""DeepSpeed's ZeRO over two processes does what one process does without it, in float32, as DeepSpeed's state is.

Needs the package deepspeed: ``pip install 'repodojo[deepspeed]'``, or ``PYTHONPATH`` with it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_loss import LOSSES, apart, fit
from test_ranks_invariance import REFERENCE, ROOT, WHAT, rows, steady, steps

from trainers.config import LossConfig, ScaleConfig, SftConfig
from trainers.errors import TrainingError
from trainers.learning.learner import TransformersLearner
from trainers.learning.learners import check
from trainers.learning.ranks import Alone, RankedLearner, Ranks, join, release, serve
from trainers.learning.zero import settings
from trainers.model.load import tiny
from trainers.protocol import Row

STAGES = (1, 2)
CLOSE = 5e-5
"""Of weights: steps of 1e-3, and the sign of a gradient that float32 rounds to nothing is the sign of Adam's step."""
there = importlib.util.find_spec("deepspeed") is not None
installed = pytest.mark.extra("deepspeed")


def learner(ranks: Ranks, loss: LossConfig, what: str = "last", zero: int | None = None) -> TransformersLearner:
    optim = WHAT[what].model_copy(update={"ema": 0.5})
    return TransformersLearner(tiny(5, layers=3, hidden=32), optim, loss, SftConfig(), 0.8, ranks=ranks, zero=zero)


def driven(ranks: Ranks, what: str, stage: int, folder: Path) -> None:
    """Steps, a checkpoint, one step more, and the same one again from the checkpoint."""
    inner = learner(ranks, REFERENCE, what, stage)
    if ranks.rank:
        return serve(inner)
    driver, home = RankedLearner(inner), folder / f"{what}-{stage}"
    home.mkdir()
    (home / "numbers.json").write_text(json.dumps([steady(numbers) for numbers in steps(driver)]))
    driver.save(home)
    for name in ("after", "again"):
        driver.update(rows(seed=8))
        torch.save({name: value.clone() for name, value in inner.model.net.state_dict().items()}, home / f"{name}.pt")
        torch.save(inner.average, home / f"{name}-average.pt")
        driver.load(home)
    broken = driver.update([row for row in rows() if row.rollout == "0"] + [infinite()])
    (home / "broken.json").write_text(json.dumps(broken))
    driver.update(rows(seed=8))
    torch.save(inner.model.net.state_dict(), home / "unharmed.pt")
    release()


def infinite() -> Row:
    """A row whose gradient is not finite."""
    row = rows()[-1]
    return replace(row, advantages=tuple(math.inf if m else 0.0 for m in row.mask), rollout="inf", group="inf")


def together(folder: Path) -> None:
    """What each process runs."""
    ranks = join()
    for name, loss in LOSSES.items():
        gradient = apart(learner(ranks, loss, zero=2)).gradient(fit(rows(), loss))
        torch.save(gradient, folder / f"{name}-{ranks.rank}.pt")
    for what in WHAT:
        for stage in STAGES:
            driven(ranks, what, stage, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, as torchrun starts them."""
    where = tmp_path_factory.mktemp("zero")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": path}
    env = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(where)]
    ranks = [subprocess.Popen(command, env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)]
    assert [process.wait(600) for process in ranks] == [0, 0]
    return where


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys() and one
    return max(float((one[name] - other[name]).detach().abs().max()) for name in one)


@installed
@pytest.mark.parametrize("name", LOSSES)
def test_sharing_gradients_out_by_zero_is_an_invariance(folder: Path, name: str) -> None:
    loss = LOSSES[name]
    alone = apart(learner(Alone(), loss)).gradient(fit(rows(), loss))
    largest = max(float(value.abs().max()) for value in alone.values())
    for rank in range(2):
        assert furthest(torch.load(folder / f"{name}-{rank}.pt"), alone) < 2e-6 * largest


@installed
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", WHAT)
def test_steps_metrics_and_average_under_zero_are_those_of_one_process(folder: Path, what: str, stage: int) -> None:
    home, alone = folder / f"{what}-{stage}", learner(Alone(), REFERENCE, what)
    found = json.loads((home / "numbers.json").read_text())
    for ours, theirs in zip(steps(alone), found, strict=True):
        assert theirs == {k: pytest.approx(v, rel=2e-4, abs=1e-5) for k, v in steady(ours).items()}
    before = {name: value.clone() for name, value in alone.model.net.state_dict().items()}
    alone.update(rows(seed=8))
    after, now = torch.load(home / "after.pt"), alone.model.net.state_dict()
    assert furthest(after, now) < CLOSE < 0.1 * furthest(before, now)
    assert furthest(torch.load(home / "after-average.pt"), alone.average) < CLOSE


@installed
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", WHAT)
def test_a_checkpoint_under_zero_is_read_by_two_ranks_and_by_one(folder: Path, what: str, stage: int) -> None:
    home = folder / f"{what}-{stage}"
    after, again = (torch.load(home / f"{name}.pt") for name in ("after", "again"))
    assert all(torch.equal(value, again[name]) for name, value in after.items())
    one = learner(Alone(), REFERENCE, what)
    one.load(home)
    assert (one.stepped, one.imitated, one.model.version) == (2, 1, 3)
    one.update(rows(seed=8))
    assert furthest(after, one.model.net.state_dict()) < CLOSE


@installed
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", WHAT)
def test_a_gradient_that_is_not_finite_is_thrown_away_under_zero(folder: Path, what: str, stage: int) -> None:
    home = folder / f"{what}-{stage}"
    assert json.loads((home / "broken.json").read_text())["skipped"] == 1
    after, unharmed = (torch.load(home / f"{name}.pt") for name in ("after", "unharmed"))
    assert all(torch.equal(value, unharmed[name]) for name, value in after.items())


@installed
@pytest.mark.parametrize(
    ("told", "given", "way"),
    [
        ({"ZERO_STAGE": "3"}, None, "scale.parallel to 'fsdp2', which does the same as stage 3"),
        ({"ZERO_STAGE": "0"}, None, "scale.parallel to 'ddp', which does the same as stage 0"),
        ({"ZERO_STAGE": "1"}, 2, "scale.zero is 2: make them the same"),
        ({"OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, None, "set offload_optimizer_device and offload_param_device to none"),
    ],
)
def test_what_accelerate_is_told_of_zero_and_is_not_honoured_is_refused(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], given: int | None, way: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for name, value in told.items():
        monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
    with pytest.raises(TrainingError, match=way):
        check(ScaleConfig.model_validate({"gpus": 2, "parallel": "deepspeed", "zero": given}))


@pytest.mark.skipif(there, reason="deepspeed is installed")
def test_without_the_package_zero_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"needs the package deepspeed.*or set scale.parallel to 'fsdp2'"):
        check(ScaleConfig(gpus=2, parallel="deepspeed"))


def test_a_stage_without_deepspeed_and_deepspeed_on_one_process_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unset it, or set scale\.parallel to 'deepspeed'"):
        ScaleConfig(gpus=2, zero=1)
    with pytest.raises(TrainingError, match="'deepspeed' shares the learner out over several processes"):
        check(ScaleConfig(parallel="deepspeed"))


@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_summed_in_float32_clipped_as_configured_and_never_divided(half: bool) -> None:
    made = settings(WHAT["last"], 2, half)
    assert (made["gradient_allreduce_op"], made["communication_data_type"]) == ("sum", "fp32")
    assert made["gradient_clipping"] == WHAT["last"].clip and made["gradient_accumulation_steps"] == 1
    assert made["bf16"]["enabled"] is half


if __name__ == "__main__":
    together(Path(sys.argv[1]))
