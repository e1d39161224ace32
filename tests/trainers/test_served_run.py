"""A whole run whose samples come from a server that holds weights of its own: what learned is what samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.trajectory import Trajectory
from rewards.credit import Credit
from trainers.components import Components
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.doubles import Examples, Game, tasks
from trainers.engine_config import VllmConfig
from trainers.engines.double import Double
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.metrics import read
from trainers.model import tiny
from trainers.served import served_machine


class NetBrain:
    """The double's brain as a real network, which reads its weights from files as a server does, unless it is deaf."""

    def __init__(self, deaf: bool = False) -> None:
        self.model = tiny(9)
        self.deaf = deaf

    def logits(self, ids: Sequence[int], adapter: str | None) -> Sequence[float]:
        import torch

        from trainers.attention import hidden
        from trainers.packing import Packed, pack

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


def run(server: Double, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    engine = VllmConfig.model_validate({"url": server.url, "folder": folder / "weights", "sync": "transfer"})
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
        player=Game(),
        scorer=Parity(),
        machine=lambda: served_machine(
            engine,
            ModelConfig(name="tiny"),
            OptimConfig(layers=2, lr=3e-2),
            LossConfig(),
            SftConfig(),
            seed=1,
            temperature=0.7,
        ),
        warm_start=lambda: Examples(2),
    )
    train(parts, settings, folder / "run", False, Console(quiet=True))
    return [line for line in read(folder / "run" / "metrics.jsonl") if line["kind"] == "grpo"]


def test_samples_of_every_step_have_the_log_probabilities_of_the_weights_that_learn(
    server: Double, tmp_path: Path
) -> None:
    steps = run(server, tmp_path)
    assert len(steps) == 3
    for step in steps:
        assert step["learner"]["ratio_max"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["ratio_min"] == pytest.approx(1, abs=1e-3)
        assert step["learner"]["sync_fallbacks"] == 0
    assert server.version == str(steps[-1]["step"] + 2)  # and two supervised ones


def test_episodes_in_flight_show_the_weights_they_were_drawn_with(server: Double, tmp_path: Path) -> None:
    steps = run(server, tmp_path, mode="async", staleness=2)
    assert len(steps) == 3 and max(step["staleness"]["max"] for step in steps) <= 2


def test_without_a_sync_the_ratio_would_tell(tmp_path: Path) -> None:
    with Double(NetBrain(deaf=True)) as server:
        steps = run(server, tmp_path)
    assert max(step["learner"]["ratio_max"] for step in steps) > 1.01
