"""The speed measurements measure what they say, on small doubles; no figure is asserted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.doubles import ExactGrader, Shelf
from benchmarks.speed import episodes, sandboxes, tokens
from benchmarks.speed.measure import Measured, rate, ratio
from sandbox.grading.diff import diff
from sandbox.grading.tree import Entry, write_tree
from sandbox.memory import MemoryBackend
from sandbox.task import Prepared, Task
from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
from trainers.machine import local_machine
from trainers.rollout.player import player

ROOT = Path(__file__).parents[2]


def test_a_line_names_the_median_its_unit_and_the_spread() -> None:
    assert Measured("round trip", "ms", (3.0, 1.0, 2.0)).line() == "round trip: 2 ms (1 to 3, 3 runs)"
    assert Measured("round trip", "ms", note="no engine").line() == "round trip: not measured, no engine"


def test_a_ratio_compares_medians_and_says_why_there_is_none() -> None:
    slow, fast = Measured("a", "ms", (30.0, 10.0, 20.0)), Measured("b", "ms", (4.0,))
    assert ratio("a / b", slow, fast).median == 5.0
    assert "no engine" in ratio("a / b", Measured("a", "ms", note="no engine"), fast).line()


def test_a_rate_divides_run_by_run() -> None:
    assert rate("r", "x/s", [10.0, 30.0], [2.0, 3.0]).runs == (5.0, 10.0)


def test_a_sandbox_is_measured_without_its_end(tmp_path: Path) -> None:
    backend = MemoryBackend()
    found = asyncio.run(sandboxes.backend_figures(backend, tmp_path, 2))
    assert [len(measured.runs) for measured in found] == [1, 2, 2]
    assert all(measured.unit == "ms" and min(measured.runs) > 0 for measured in found)


def test_scripted_episodes_are_played_and_graded(tmp_path: Path) -> None:
    text = "def low(x, y):\n    return max(x, y)\n"
    before, after = ({"m.py": Entry("f", t.encode())} for t in (text, text.replace("max", "min")))
    write_tree(before, tmp_path / "base")
    task = Task(
        instance_id="low",
        repo="pack",
        base_commit="0" * 40,
        problem_statement="`low` is wrong.",
        patch=diff(before, after),
        FAIL_TO_PASS=("t",),
        PASS_TO_PASS=(),
        focus="m.py::low",
    )
    source = Shelf((Prepared(task=task, base=tmp_path / "base", tests=tmp_path, site=tmp_path),))
    config, grader = AgentConfig(diagnostics=False), ExactGrader()
    made = player(config, MemoryBackend(), source, grader, starts=1, graders=1)
    (found,) = asyncio.run(episodes.measure(2, [task], source, made, config, 2))
    assert len(found.runs) == 2 and grader.graded == 4


def test_tokens_are_counted_at_sampled_positions_and_in_whole_rows() -> None:
    config = ModelConfig(name="tiny")
    found = tokens.measure(2, lambda: local_machine(config, OptimConfig(layers=2), LossConfig(), SftConfig()), "tiny")
    assert [(m.name, m.unit, len(m.runs)) for m in found[:2]] == [
        ("sampled tokens", "tokens/s", 2),
        ("sampled tokens", "tokens/CPU-s", 2),
    ]
    at_sampled, whole = found[2], found[4]
    assert all(a < b for a, b in zip(at_sampled.runs, whole.runs, strict=True))


@pytest.mark.slow
def test_the_command_prints_one_json_object() -> None:
    command = [sys.executable, "-m", "benchmarks.speed", "--json", "--runs", "1", "--only", "sandboxes"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    names = {measured["name"] for measured in json.loads(done.stdout)["measured"]}
    assert "local: round trip of one action" in names
