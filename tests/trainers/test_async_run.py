"""Whole runs of the game in memory whose episodes stay in flight over updates, killed or not."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from agent.policy import Policy, PolicyError
from agent.store import Store
from agent.trajectory import Key, Trajectory
from sandbox.task import Task
from trainers.components import Components
from trainers.doubles import Game, TableEngine, components
from trainers.errors import TrainingError
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.record import checkpoint
from trainers.record.metrics import read

QUIET = Console(quiet=True)
ROOT = Path(__file__).parents[2]


def settings(steps: int = 6, **given: Any) -> Settings:
    config = {"steps": steps, "minutes": None, "prompts": 3, "group": 4, "wave": 8, "mode": "async", **given}
    evaluation = EvalConfig(samples=2, wave=8, stages=("before", "after"))
    return Settings(3, TrainConfig.model_validate(config), evaluation, "seed = 3\n", picture=False)


def run(folder: Path, parts: Components, config: Settings, resume: bool = False) -> list[dict[str, Any]]:
    train(parts, config, folder, resume, QUIET)
    return grpo(folder)


def grpo(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read(folder / "metrics.jsonl") if record["kind"] == "grpo"]


class Slow(Game):
    """Some episodes take far longer than others."""

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        await asyncio.sleep(0.05 if random.Random(f"{key}").random() < 0.15 else 0.0)
        return await super().play(task, policy, key, sampled)


@pytest.mark.parametrize("mode", ["one-step-off", "async"])
def test_a_run_in_flight_uses_every_prompt_once_and_stays_within_its_bound(tmp_path: Path, mode: str) -> None:
    config = settings(mode=mode, steps=10)
    steps = run(tmp_path / "run", components(train=7, game=Slow()), config)
    assert len(steps) == 10 and all(step["staleness"]["max"] <= config.train.bound for step in steps)
    prompts = [prompt for step in steps for prompt in step["prompts"]]
    assert len(set(prompts)) == len(prompts) == 30
    assert max(step["staleness"]["max"] for step in steps) > 0, "nothing was in flight over an update"


def test_training_in_flight_raises_the_resolve_rate(tmp_path: Path) -> None:
    config = settings(steps=30, wave=16)
    found = train(components(train=12, heldout=8), config, tmp_path / "run", console=QUIET)
    rates = {stage: result["rates"]["tests_pass"]["value"] for stage, result in found["evaluations"].items()}
    assert rates["after"] > rates["before"] + 0.3


def test_finished_but_unused_groups_are_taken_up_by_a_resumed_run(tmp_path: Path) -> None:
    folder, game = tmp_path / "run", Slow()
    with pytest.raises(TrainingError, match="the server is gone"):
        run(folder, components(game=Failing(after=40), batches=1), settings())
    stored = {t.key for t in Store(folder / "trajectories.jsonl").read()}
    run(folder, components(game=game, batches=1), settings(), resume=True)
    training = [key for key in game.played if key.step >= 0]
    assert stored and not stored & set(training)
    assert len(grpo(folder)) == 6


class Failing(Game):
    """The engine fails in the middle of training."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def play(self, task: Task, policy: Policy, key: Key, sampled: Callable[[], None]) -> Trajectory:
        if len(self.played) > self.after:
            raise PolicyError("the server is gone")
        return await super().play(task, policy, key, sampled)


def test_infrastructure_is_masked_and_too_much_of_it_stops_the_run(tmp_path: Path) -> None:
    one = Game(broken=lambda task, key: key.step >= 0 and key.sample == 0)
    steps = run(tmp_path / "some", components(game=one), settings(steps=2))
    assert [step["outcomes"]["infra"] for step in steps] == [3, 3]
    most = Game(broken=lambda task, key: key.step >= 0 and key.sample > 0)
    with pytest.raises(TrainingError, match="9 of 12 episodes ended by infrastructure"):
        run(tmp_path / "most", components(game=most), settings(steps=2))


def test_a_group_without_contrast_gives_way_to_another_prompt_in_sync_mode_too(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", components(), settings(mode="sync", group=2, wave=4))
    filled = run(tmp_path / "filled", components(), settings(mode="sync", group=2, wave=4, fill=50))
    assert any(step["dead_share"] for step in plain)
    assert not any(step["dead_share"] for step in filled) and sum(step["replaced"] for step in filled) > 0
    assert all(len(step["prompts"]) == 3 for step in filled)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mode": "sync", "staleness": 2}, "train.staleness needs train.mode = 'async'; 'sync' fixes it at 0"),
        ({"mode": "one-step-off", "staleness": 2}, "fixes it at 1"),
        ({"mode": "sync", "spare": 1}, "train.spare lets timing decide"),
        ({"mode": "sync", "deadline": 60}, "train.deadline lets timing decide"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainConfig.model_validate(given)


def main(folder: Path) -> None:
    """The run that is killed below."""
    parts = components(train=7, heldout=2, game=Slow(turn_s=0.002), engine=TableEngine(batch_s=0.002), batches=1)
    config = Settings(7, settings(steps=12, fill=2).train, EvalConfig(stages=()), "seed = 7\n", picture=False)
    train(parts, config, folder, (folder / "config.toml").exists(), QUIET)


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)})


def kill(folder: Path, rng: random.Random, seen: set[Key]) -> bool:
    """Start or resume, kill after a random time of training; whether it was still running."""
    file = folder / "trajectories.jsonl"
    size, process = file.stat().st_size if file.exists() else 0, start(folder)
    began = time.monotonic()
    while process.poll() is None and (not file.exists() or file.stat().st_size == size):
        assert time.monotonic() - began < 60
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.15))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen |= {t.key for t in Store(file).read()}
    return alive


def killed(folder: Path, kills: int) -> int:
    """A run that is killed so many times, or until it ends; how often it was. Nothing finished is lost."""
    rng, seen, hits = random.Random(int.from_bytes(os.urandom(4))), set[Key](), 0
    while hits < kills and kill(folder, rng, seen):
        hits += 1
    assert start(folder).wait() == 0
    stored = [t.key for t in Store(folder / "trajectories.jsonl").read()]
    assert seen <= set(stored) and len(stored) == len(set(stored)), "a finished episode was lost or played again"
    steps = grpo(folder)
    assert [step["step"] for step in steps] == list(range(1, 13))
    prompts = [prompt for step in steps for prompt in step["prompts"]]
    assert len(prompts) == len(set(prompts)) == 36, "a prompt was used twice or skipped"
    newest = checkpoint.latest(folder)
    assert newest is not None
    state = checkpoint.load(newest, checkpoint.State.model_validate_json((newest / "state.json").read_text()).config)
    consumed = {*range(state.frontier), *state.used}
    assert set(prompts) <= consumed
    assert hits, "the run ended before it could be killed"
    return hits


def test_a_run_in_flight_that_is_killed_loses_nothing_finished(tmp_path: Path) -> None:
    killed(tmp_path / "run", 3)


@pytest.mark.slow
def test_runs_in_flight_that_are_killed_fifty_times_lose_nothing_finished(tmp_path: Path) -> None:
    hits = runs = 0
    while hits < 50:
        hits, runs = hits + killed(tmp_path / f"run-{runs}", min(5, 50 - hits)), runs + 1
    print(f"{hits} kills of {runs} runs, nothing finished lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
