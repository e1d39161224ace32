"""A whole run whose samples come from a server that holds weights of its own: what learned is what samples."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.policy import Policy, PolicyError
from agent.trajectory import Key, Trajectory
from rewards.credit import Credit
from sandbox.task import Task
from trainers.components import Components
from trainers.config import LossConfig, ModelConfig, OptimConfig, ScaleConfig, SftConfig
from trainers.doubles import Examples, Game, tasks
from trainers.engine_config import VllmConfig
from trainers.engines.double import Double
from trainers.errors import TrainingError
from trainers.learning.learners import learner
from trainers.learning.ranks import rank, release, serve
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.model.load import tiny
from trainers.record.metrics import read
from trainers.served import served_machine


class NetBrain:
    """The double's brain as a real network, which reads its weights from files as a server does, unless it is deaf."""

    def __init__(self, deaf: bool = False) -> None:
        self.model = tiny(9)
        self.deaf = deaf

    def logits(self, ids: Sequence[int], adapter: str | None) -> Sequence[float]:
        import torch

        from trainers.model.attention import hidden
        from trainers.model.packing import Packed, pack

        line, blocks = pack([[list(ids)]])
        places = torch.arange(len(line))
        with torch.no_grad():
            states = hidden(self.model.net, torch.tensor(line), places, Packed(blocks), places[-1:])
            return self.model.net.lm_head(states)[0].tolist()

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if not self.deaf:
            self.model.net.load_state_dict(load_file(folder / "model.safetensors"), strict=False)

    def adapt(self, name: str, folder: Path | None) -> None:
        raise NotImplementedError


class Parity:
    """Likes even tokens: contrast that even a random model has."""

    def score(self, group: Sequence[Trajectory]) -> Credit:
        returns = [float(sum(i % 2 == 0 for turn in t.turns for i in turn.sampled)) + t.key.sample for t in group]
        advantages = tuple(r - sum(returns) / len(returns) for r in returns)
        return Credit(
            returns=tuple(returns),
            valid=(True,) * len(group),
            trajectory=advantages,
            turns=tuple((a,) * len(t.turns) for a, t in zip(advantages, group, strict=True)),
        )


@pytest.fixture
def server() -> Iterator[Double]:
    with Double(NetBrain()) as running:
        yield running


OPTIM = OptimConfig(layers=2, lr=3e-2)


class Stopping(Game):
    """Its engine is gone at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        if key.step == self.step:
            raise PolicyError("the server is gone")
        return await super().play(task, policy, key, sampled)


def run(
    url: str,
    folder: Path,
    scale: ScaleConfig | None = None,
    resume: bool = False,
    game: Game | None = None,
    **changes: Any,
) -> list[dict[str, Any]]:
    engine = VllmConfig.model_validate({"url": url, "folder": folder / "weights", "sync": "transfer"})
    values = {"steps": 3, "minutes": None, "prompts": 2, "group": 2, "wave": 4, "temperature": 0.7} | changes
    settings = Settings(
        seed=3,
        train=TrainConfig.model_validate(values),
        evaluation=EvalConfig(stages=("after",), samples=1, wave=1),
        text="seed = 3\n",
        picture=False,
    )
    parts = Components(
        train=tasks(["a", "b", "c"]),
        heldout=tasks(["d"]),
        player=game or Game(),
        scorer=Parity(),
        machine=lambda: served_machine(
            engine,
            ModelConfig(name="tiny"),
            OPTIM,
            LossConfig(),
            SftConfig(),
            seed=1,
            temperature=0.7,
            scale=scale,
        ),
        warm_start=lambda: Examples(2),
    )
    train(parts, settings, folder / "run", resume, Console(quiet=True))
    return [line for line in read(folder / "run" / "metrics.jsonl") if line["kind"] == "grpo"]


def test_samples_of_every_step_have_the_log_probabilities_of_the_weights_that_learn(
    server: Double, tmp_path: Path
) -> None:
    steps = run(server.url, tmp_path)
    assert len(steps) == 3
    for step in steps:
        assert step["learner"]["ratio_max"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["ratio_min"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["sync_fallbacks"] == 0
    assert server.version == str(steps[-1]["step"] + 2)  # and two supervised ones


def test_episodes_in_flight_show_the_weights_they_were_drawn_with(server: Double, tmp_path: Path) -> None:
    steps = run(server.url, tmp_path, mode="async", staleness=2)
    assert len(steps) == 3 and max(step["staleness"]["max"] for step in steps) <= 2


def test_without_a_sync_the_ratio_would_tell(tmp_path: Path) -> None:
    with Double(NetBrain(deaf=True)) as server:
        steps = run(server.url, tmp_path)
    assert max(step["learner"]["ratio_max"] for step in steps) > 1.01


def together(url: str, folder: Path, parallel: str) -> None:
    """What each of two processes runs: a run that stops after two steps, then the third, resumed."""
    scale = ScaleConfig.model_validate({"gpus": 2, "parallel": parallel})
    for game, resume, end in ((Stopping(2), False, pytest.raises(TrainingError)), (Game(), True, nullcontext())):
        if rank():
            model = ModelConfig(name="tiny")
            serve(learner(tiny(1), model, OPTIM, LossConfig(), SftConfig(), temperature=0.7, scale=scale))
        else:
            with end:
                run(url, folder, scale, resume, game)
            release()


zero = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.mark.parametrize(
    "parallel",
    ["fsdp2", pytest.param("ddp", marks=pytest.mark.slow), pytest.param("deepspeed", marks=[pytest.mark.slow, zero])],
)
def test_two_ranks_send_whole_weights_and_go_on_where_they_stopped(
    server: Double, tmp_path: Path, parallel: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, **shared, "PYTHONPATH": path}
    command = [sys.executable, __file__, server.url, str(tmp_path), parallel]
    processes = [subprocess.Popen(command, env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    steps = [line for line in read(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "grpo"]
    assert [step["step"] for step in steps] == [1, 2, 3]
    for step in steps:
        assert step["learner"]["ratio_max"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["ratio_min"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["sync_fallbacks"] == 0
    assert server.version == "5"  # two supervised steps besides


if __name__ == "__main__":
    together(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
