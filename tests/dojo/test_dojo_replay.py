"""``dojo replay`` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.store import Store
from agent.trajectory import Trajectory
from rewards.matrix import Matrix

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "configs" / "rewards"


def dojo(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from dojo.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)


def group(step: int, prompt: int, *members: dict[str, Any]) -> list[Trajectory]:
    made = Matrix.model_validate({"trajectories": members}).group()
    return [one.model_copy(update={"key": one.key.model_copy(update={"step": step, "prompt": prompt})}) for one in made]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which ever fewer episodes are submitted; members of a step's groups are stored interleaved."""
    folder = tmp_path_factory.mktemp("run")
    fails = {"outcome": "tests_fail", "turns": [{"tests": "10"}, {"tests": "11"}]}
    quits = {"outcome": "no_submit", "turns": [{"tests": "10"}]}
    store = Store(folder / "trajectories.jsonl")
    for step in range(9):
        members = [quits if sample <= step // 2 else fails for sample in range(4)]
        pairs = zip(group(step, 0, *members), group(step, 1, *members), strict=True)
        for trajectory in (one for pair in pairs for one in pair):
            store.append(trajectory)
    for stage in ("before", "after"):
        Store(folder / f"evals-{stage}.jsonl").append(group(-1, 0, fails)[0])
    (folder / "config.toml").write_text('[rewards]\nname = "g_ra"\n')
    return folder


def test_a_run_is_scored_again_under_its_own_recipe_with_its_audit(run: Path) -> None:
    done = dojo("replay", str(run), "--json")
    *rows, audit = map(json.loads, done.stdout.splitlines())
    # 18 groups of training, and an evaluation's group in each of two files: equal keys of two files are no group.
    assert done.returncode == 0 and [len(row["keys"]) for row in rows] == [4] * 18 + [1, 1]
    assert audit["audit"]["steps"] == 9
    assert any("fewer and fewer episodes are submitted" in warning for warning in audit["audit"]["warnings"])
    assert "audit: critic 'outcome': fewer and fewer" in dojo("replay", str(run)).stdout


def test_a_run_is_compared_under_another_recipe(run: Path) -> None:
    done = dojo("replay", str(run), "--rewards", str(RECIPES / "verpo.toml"), "--json")
    found = json.loads(done.stdout)
    own, other = found["recipes"]
    assert (own["recipe"], other["recipe"]) == ("g_ra", "verpo")
    assert own["turn_signal"] == 0 < other["turn_signal"] and own["carrying"] == 12 == other["carrying"]
    text = dojo("replay", str(run), "--rewards", str(RECIPES / "verpo.toml")).stdout
    assert "groups that carry signal" in text and "audit of g_ra: critic 'outcome'" in text


def test_a_run_without_the_facts_of_a_recipe_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for one in group(0, 0, *[{"outcome": "tests_fail", "turns": [{"tree": "a"}]}] * 2):
        Store(path).append(one)
    done = dojo("replay", str(path), "--rewards", str(RECIPES / "verpo.toml"))
    assert done.returncode == 2 and "the attempt was not graded" in done.stderr and done.stderr.count("\n") == 1
