"""Kill anything, lose nothing finished (invariant 10): real processes, killed with SIGKILL."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.store import Store
from trainers.record.metrics import read

SCRIPT = Path(__file__).with_name("killable_run.py")
ROOT = Path(__file__).parents[2]
KILLS = 5


def start(folder: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], env=env, stdout=subprocess.DEVNULL)


def steady(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what may differ: times."""
    return [{k: v for k, v in record.items() if k != "timing"} for record in read(folder / "metrics.jsonl")]


def weights(folder: Path) -> str:
    newest = max(p for p in (folder / "checkpoints").iterdir())
    return (newest / "table.json").read_text()


def lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.jsonl")) if path.name != "metrics.jsonl" for line in whole(path)]


def whole(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "calm"
    assert start(folder).wait() == 0
    return folder


def killed_at(folder: Path, seconds: float) -> bool:
    """Start or resume, kill after so many seconds of the run itself; whether it was still running."""
    process = start(folder)
    before = time.monotonic()
    log = folder / "log.txt"
    known = log.stat().st_size if log.exists() else 0
    while process.poll() is None and not (log.exists() and log.stat().st_size > known):
        assert time.monotonic() - before < 60
        time.sleep(0.005)
    time.sleep(seconds)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def survived(home: Path, kills: int, uninterrupted: Path) -> None:
    """Runs that are killed until that happened so many times in all; each ends as the uninterrupted one did."""
    runs, hits = 0, 0
    while hits < kills:
        hits, runs = hits + killed(home / f"run-{runs}", kills - hits, uninterrupted), runs + 1
        assert runs <= kills, "runs end before they can be killed: make them longer"
    print(f"{hits} kills of {runs} runs, all of them with the same weights and metrics in the end")


def killed(folder: Path, most: int, uninterrupted: Path) -> int:
    """One run, killed at random moments; how often."""
    rng, hits = random.Random(int.from_bytes(os.urandom(4))), 0
    seen: set[str] = set()
    while hits < most and killed_at(folder, rng.uniform(0, 0.35)):
        hits += 1
        seen |= set(lines(folder))
    assert start(folder).wait() == 0
    assert seen <= set(lines(folder)), "a finished trajectory was lost"
    assert weights(folder) == weights(uninterrupted)
    assert steady(folder) == steady(uninterrupted)
    assert sorted(lines(folder)) == sorted(lines(uninterrupted))
    return hits


def test_a_run_killed_at_random_moments_ends_with_the_weights_and_metrics_of_one_that_was_not(
    tmp_path: Path, uninterrupted: Path
) -> None:
    survived(tmp_path, KILLS, uninterrupted)


@pytest.mark.slow
def test_runs_killed_at_fifty_random_moments_end_with_the_weights_and_metrics_of_one_that_was_not(
    tmp_path: Path, uninterrupted: Path
) -> None:
    survived(tmp_path, 50, uninterrupted)


def test_no_episode_is_stored_twice_after_kills(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed_at(folder, 0.3)
    assert start(folder).wait() == 0
    for path in (p for p in folder.glob("*.jsonl") if p.name != "metrics.jsonl"):
        keys = [trajectory.key for trajectory in Store(path).read()]
        assert len(keys) == len(set(keys)), path.name


def test_the_finished_run_wrote_everything_that_its_folder_promises(uninterrupted: Path) -> None:
    names = {path.name for path in uninterrupted.iterdir()}
    assert {"config.toml", "metrics.jsonl", "trajectories.jsonl", "summary.json", "curves.png", "log.txt"} <= names
    assert {"evals-before.jsonl", "evals-warm.jsonl", "evals-after.jsonl"} <= names
    assert len(list((uninterrupted / "checkpoints").iterdir())) == 2
    summary = json.loads((uninterrupted / "summary.json").read_text())
    assert set(summary["evaluations"]) == {"before", "warm", "after"}
    assert summary["training"]["steps"] == 6 and summary["training"]["episodes"] == 72
    rates = summary["evaluations"]["after"]["rates"].values()
    assert abs(sum(rate["value"] for rate in rates) - 1) < 1e-9
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")
