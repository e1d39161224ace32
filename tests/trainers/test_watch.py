"""Watchers get what the metrics file gets, and never stop a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from trainers.doubles import components
from trainers.errors import TrainingError
from trainers.loop import Settings, train
from trainers.loop_config import EvalConfig, TrainConfig
from trainers.record.metrics import Metrics
from trainers.record.watch import PACKAGES, Watchers, flat, start


class Ear:
    """Remembers; fails from a given line on."""

    def __init__(self, fails: int = 99) -> None:
        self.heard: list[tuple[int, Mapping[str, float]]] = []
        self.fails, self.closed = fails, False

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        if step >= self.fails:
            raise ConnectionError("the service is down")
        self.heard.append((step, numbers))

    def close(self) -> None:
        self.closed = True


def test_numbers_are_flat_and_what_is_no_number_is_left_out() -> None:
    record = {"kind": "grpo", "reward": None, "rates": {"infra": 0.1, "deep": {"x": 2}}, "prompts": [1], "gate": True}
    assert dict(flat(record)) == {"rates/infra": 0.1, "rates/deep/x": 2.0}


def test_every_line_of_the_metrics_is_heard_with_its_number_also_after_a_resume(tmp_path: Path) -> None:
    ear = Ear()
    first = Metrics(tmp_path / "m.jsonl", heard=Watchers([ear], print).log)
    first.append({"kind": "sft", "loss": 2})
    Metrics(tmp_path / "m.jsonl", 1, Watchers([ear], print).log).append({"kind": "grpo", "learner": {"kl": 0.5}})
    assert ear.heard == [(1, {"sft/loss": 2.0}), (2, {"grpo/learner/kl": 0.5})]


def test_a_watcher_that_fails_is_dropped_with_a_word_and_the_others_go_on() -> None:
    said, broken, fine = list[str](), Ear(fails=2), Ear()
    watchers = Watchers([broken, fine], said.append)
    for line in (1, 2, 3):
        watchers.log(line, {"kind": "grpo", "loss": line})
    watchers.close()
    assert len(fine.heard) == 3 and fine.closed and not broken.closed
    assert said == ["Ear is not told any more: ConnectionError: the service is down"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_watcher_that_is_not_installed_is_refused_before_anything_is_played(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(PACKAGES[name]):
        pytest.skip(f"{name} is installed")
    config = TrainConfig.model_validate(
        {"steps": 1, "minutes": None, "prompts": 3, "group": 4, "wave": 4, "watch": [name]}
    )
    settings = Settings(0, config, EvalConfig.model_validate({"stages": ()}), "seed = 0\n", picture=False)
    with pytest.raises(TrainingError, match=f"pip install {PACKAGES[name]}"):
        train(components(), settings, tmp_path / "run", console=Console(quiet=True))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.extra(PACKAGES[name])) for name in PACKAGES])
def test_a_watcher_that_is_installed_writes_what_it_is_told(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for variable, value in (("WANDB_MODE", "offline"), ("WANDB_DIR", str(run)), ("TRACKIO_DIR", str(run))):
        monkeypatch.setenv(variable, value)
    said = list[str]()
    watchers = Watchers(start([name], run, "seed = 0\n"), said.append)
    for line in (1, 2):
        watchers.log(line, {"kind": "grpo", "learner": {"kl": 0.5 * line}})
    watchers.close()
    assert not said and len(watchers.all) == 1
    assert sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) > 0
