"""Two processes that learn together over gloo do what one does: gradients, steps, checkpoints."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from every_loss import LOSSES as EVERY
from every_loss import apart, fit

from trainers.config import Clip, Gspo, Kl, LossConfig, OptimConfig, SftConfig
from trainers.errors import TrainingError
from trainers.learning.learner import TransformersLearner
from trainers.learning.ranks import Alone, RankedLearner, Ranks, deal, join, release, serve
from trainers.learning.sharded import reshards
from trainers.model.load import tiny
from trainers.protocol import Learner, Row

ROOT = Path(__file__).parents[2]
REFERENCE = LossConfig(kl=Kl(weight=0.1), policy=Clip(high=0.28))
LOSSES = {
    "token-mean": LossConfig(aggregation="token-mean", policy=Clip(high=0.28)),
    "gspo": LossConfig(policy=Gspo(low=0.3, high=0.4), aggregation="seq-mean-token-mean"),
}


def rows(count: int = 5, seed: int = 0) -> list[Row]:
    """Rollouts of very different lengths, the first of them in two rows."""
    chance, made = random.Random(seed), list[Row]()
    for index in range(count):
        for _ in range(2 if index == 0 else 1):
            size = 4 + 9 * index
            mask = (False, False, *(chance.random() < 0.8 for _ in range(size)))
            made.append(
                Row(
                    ids=tuple(chance.choices(range(256), k=size + 2)),
                    mask=mask,
                    logprobs=tuple(-5.5 + chance.uniform(-0.4, 0.4) if m else 0.0 for m in mask),
                    advantages=tuple(chance.uniform(-1, 1) if m else 0.0 for m in mask),
                    rollout=str(index),
                    group=str(index // 2),
                )
            )
    return made


WHAT = {
    "last": OptimConfig(layers=2, tokens=64, lr=1e-3),
    "every": OptimConfig(layers=None, tokens=64, lr=1e-3, checkpointing=True),
    "lora": OptimConfig(layers=2, lora=4, tokens=64, lr=1e-2),
}


def learner(ranks: Ranks, loss: LossConfig, what: str = "last", shared: str | None = None) -> TransformersLearner:
    model = tiny(5, layers=3, hidden=32, double=True)
    return TransformersLearner(model, WHAT[what], loss, SftConfig(), 0.8, ranks=ranks, shared=shared)


def steady(numbers: dict[str, float]) -> dict[str, float]:
    """Without what depends on the clock or on how rows are packed."""
    return {k: v for k, v in numbers.items() if k not in ("seconds", "tokens_per_s", "packed_tokens")}


def steps(driver: Learner) -> list[dict[str, float]]:
    return [driver.imitate(rows(seed=3)), driver.update(rows()), driver.update(rows(1, seed=2))]


def out_together(ranks: Ranks, what: str, folder: Path) -> None:
    """Steps with the weights shared out, a checkpoint, one step more, and the same one again from the checkpoint."""
    inner = learner(ranks, REFERENCE, what, shared="cpu")
    if ranks.rank:
        return serve(inner)
    driver, home = RankedLearner(inner), folder / f"shared-{what}"
    home.mkdir()
    numbers = steps(driver)
    (home / "numbers.json").write_text(json.dumps([steady(n) for n in numbers]))
    driver.save(home)
    for name in ("after", "again"):
        driver.update(rows(seed=8))
        torch.save(driver.state(), home / f"{name}.pt")
        driver.load(home)
    release()


def together(folder: Path) -> None:
    """What each process runs: the gradient, then two steps and a checkpoint driven by rank 0."""
    ranks = join()
    for name, loss in EVERY.items():
        gradient = apart(learner(ranks, loss)).gradient(fit(rows(), loss))
        torch.save(gradient, folder / f"{name}-{ranks.rank}.pt")
    for name, loss in LOSSES.items():
        torch.save(learner(ranks, loss, shared="cpu").gradient(rows()), folder / f"{name}-shared-{ranks.rank}.pt")
    for what in WHAT:
        out_together(ranks, what, folder)
    inner = learner(ranks, LOSSES["token-mean"])
    if ranks.rank:
        return serve(inner)
    driver = RankedLearner(inner)
    numbers = steps(driver)
    (folder / "numbers.json").write_text(json.dumps([steady(n) for n in numbers]))
    driver.save(folder)
    torch.save(dict(inner.parameters), folder / "weights.pt")
    release()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, as torchrun starts them."""
    where = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    env = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(where)]
    processes = [subprocess.Popen(command, env={**env, "RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    return where


@pytest.mark.parametrize("name", EVERY)
def test_the_number_of_ranks_is_an_invariance(folder: Path, name: str) -> None:
    loss = EVERY[name]
    assert_same_on_both(folder, name, apart(learner(Alone(), loss)).gradient(fit(rows(), loss)))


@pytest.mark.parametrize("name", LOSSES)
def test_sharing_the_weights_out_over_ranks_is_an_invariance(folder: Path, name: str) -> None:
    assert_same_on_both(folder, f"{name}-shared", learner(Alone(), LOSSES[name]).gradient(rows()))


def assert_same_on_both(folder: Path, name: str, alone: dict[str, torch.Tensor]) -> None:
    for rank in range(2):
        shared = torch.load(folder / f"{name}-{rank}.pt")
        assert shared.keys() == alone.keys()
        assert max(float((shared[key] - alone[key]).abs().max()) for key in alone) < 1e-9
    assert max(float(value.abs().max()) for value in alone.values()) > 1e-6


def test_steps_and_metrics_of_two_ranks_are_those_of_one_and_more_ranks_than_rollouts_do_no_harm(folder: Path) -> None:
    alone = learner(Alone(), LOSSES["token-mean"])
    numbers = steps(alone)
    found = json.loads((folder / "numbers.json").read_text())
    for ours, theirs in zip(numbers, found, strict=True):
        assert theirs == {k: pytest.approx(v, rel=1e-9, abs=1e-12) for k, v in steady(ours).items()}
    weights = torch.load(folder / "weights.pt")
    assert max(float((weights[name] - p).abs().max().detach()) for name, p in alone.parameters.items()) < 1e-9


def test_a_checkpoint_of_two_ranks_is_read_by_one(folder: Path) -> None:
    one = learner(Alone(), LOSSES["token-mean"])
    one.load(folder)
    weights = torch.load(folder / "weights.pt")
    assert all(torch.equal(weights[name], p) for name, p in one.parameters.items())
    assert (one.stepped, one.imitated) == (2, 1)


@pytest.mark.parametrize("what", WHAT)
def test_weights_that_are_shared_out_learn_as_whole_ones_an_invariance(folder: Path, what: str) -> None:
    home, alone = folder / f"shared-{what}", learner(Alone(), REFERENCE, what)
    found = json.loads((home / "numbers.json").read_text())
    for ours, theirs in zip(steps(alone), found, strict=True):
        assert theirs == {k: pytest.approx(v, rel=1e-9, abs=1e-12) for k, v in steady(ours).items()}
    before = {name: value.clone() for name, value in alone.model.net.state_dict().items()}
    alone.update(rows(seed=8))
    after = torch.load(home / "after.pt")
    assert after.keys() == before.keys()
    for name, value in alone.model.net.state_dict().items():
        assert float((after[name] - value).abs().max()) < 1e-9, name
    assert any(float((after[name] - value).abs().max()) > 1e-5 for name, value in before.items())


@pytest.mark.parametrize("what", WHAT)
def test_a_checkpoint_of_shared_out_weights_is_read_by_two_ranks_and_by_one(folder: Path, what: str) -> None:
    home = folder / f"shared-{what}"
    after, again = (torch.load(home / f"{name}.pt") for name in ("after", "again"))
    assert all(torch.equal(value, again[name]) for name, value in after.items())
    one = learner(Alone(), REFERENCE, what)
    one.load(home)
    assert (one.stepped, one.imitated) == (2, 1)
    one.update(rows(seed=8))
    for name, value in one.model.net.state_dict().items():
        assert float((after[name] - value).abs().max()) < 1e-9, name


def test_what_accelerate_is_told_holds_and_what_is_not_honoured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reshards()
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    assert not reshards()
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(TrainingError, match=r"fsdp_offload_params .* set it to false"):
        reshards()


def test_rollouts_are_dealt_whole_in_order_and_evenly_in_tokens() -> None:
    whole = [[row for row in rows(20) if row.rollout == str(i)] for i in range(20)]
    parts = deal(whole, 3)
    loads = [sum(len(row.ids) for part in some for row in part) for some in parts]
    assert sorted(part[0].rollout for some in parts for part in some) == sorted(str(i) for i in range(20))
    assert max(loads) - min(loads) < 180 and all(
        [int(p[0].rollout) for p in some] == sorted(int(p[0].rollout) for p in some) for some in parts
    )


if __name__ == "__main__":
    together(Path(sys.argv[1]))
