"""Three steps of the embedded model on real tasks under each recipe of the family (a minute each; in the soak).

Few prompts and short answers: the point is that facts are measured on what the model itself did and that credit reaches
the loss, not that it learns.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent.store import Store
from agent.trajectory import Trajectory
from dojo import build
from dojo.config import Config, load
from trainers.components import Machine
from trainers.loop import Settings, train
from trainers.record import checkpoint
from trainers.record.metrics import read

ROOT = Path(__file__).parents[2]
SMALL = {
    "train.steps": "3",
    "train.minutes": "15",
    "train.prompts": "2",
    "train.group": "8",
    "train.wave": "16",
    "train.temperature": "1.0",
    "tasks.max_train": "60",
    "sft.examples": "96",
    "sft.minutes": "5",
    "agent.max_tokens": "160",
    "agent.shadow": "on",
    "eval.stages": "[]",
}

pytestmark = [pytest.mark.slow, pytest.mark.model]


def config(name: str, **more: str) -> Config:
    recipe = ROOT / "configs" / "rewards" / f"{name}.toml"
    values = {"rewards": str(recipe)} | SMALL | {key.replace("__", "."): value for key, value in more.items()}
    return load(ROOT / "configs" / "quickstart.toml", [f"--{key}={value}" for key, value in values.items()])


def run(config: Config, folder: Path, weights: Path | None = None) -> Path:
    built = build.components(config, lambda _: None, folder)

    def machine() -> Machine:
        made = built.machine()
        if weights is not None:
            made.learner.load(weights)
        return made

    parts = built if weights is None else replace(built, machine=machine, warm_start=None)
    settings = Settings(config.seed, config.train, config.eval, config.to_toml(), picture=False)
    train(parts, settings, folder, console=Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a short warm start."""
    folder = checkpoint.latest(run(config("g_ra", train__steps="0"), tmp_path_factory.mktemp("warm") / "run"))
    assert folder is not None
    return folder


@pytest.mark.parametrize("name", ["g_ra", "verpo", "verpo_gated", "lanser_v2", "all_gated"])
def test_turn_facts_are_filled_and_turn_credit_reaches_the_loss(tmp_path: Path, warm: Path, name: str) -> None:
    folder = run(config(name), tmp_path / "run", warm)
    steps = [record for record in read(folder / "metrics.jsonl") if record["kind"] == "grpo"]
    played = list(Store(folder / "trajectories.jsonl").read())
    assert len(steps) == 3 and len(played) == 48
    assert sum(_facts(one) for one in played) > 0
    assert all(step["timing"]["reward_share"] < 0.001 for step in steps)
    assert any(step["learner"] and step["learner"]["grad_norm"] > 0 for step in steps)
    assert any(step["turn_signal"] > 0 and step["turn_size"] > 0 for step in steps)
    if name == "g_ra":
        assert any(step["reward"] > step["parts"]["outcome"] for step in steps)


def _facts(one: Trajectory) -> int:
    """Attempts of an episode, each with its vector and its diagnostics."""
    attempts = [turn.facts for turn in one.turns if turn.facts.attempt]
    assert all(len(facts.tests or "") == len(one.tests) > 0 for facts in attempts)
    assert one.base_diagnostics is not None and all(facts.diagnostics is not None for facts in attempts)
    return len(attempts)
