"""``dojo score`` as a person runs it: a group by hand, without a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TURN: dict[str, Any] = {
    "tests": "110100", "format_ok": True, "tool_ok": True, "diagnostics": 3, "safe": 1, "confidence": 0.9,
    "tree": "a1", "action": "edit", "suppressed": 0,
}  # fmt: skip
MATRIX: dict[str, Any] = {
    "trajectories": [
        {"outcome": "tests_pass", "turns": [TURN, {"tests": "111111", "diagnostics": 0, "tree": "a2"}]},
        {"outcome": "no_submit", "turns": [TURN | {"tests": "000000"}]},
        {"outcome": "infra", "turns": [{}]},
    ],
    "f2p": [0, 1],
    "p2p": [2, 3, 4, 5],
}


def score(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from dojo.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, "score", *words], cwd=ROOT, capture_output=True, text=True)


def test_the_command_of_the_docs_prints_what_the_docs_show() -> None:
    done = score("docs/rewards-example.json", "--rewards", "configs/rewards/g_ra.toml")
    assert done.returncode == 0 and "A(steps)" in done.stdout
    assert done.stdout in (ROOT / "docs" / "rewards.md").read_text()


def test_a_matrix_with_every_field_is_scored_for_machines(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(MATRIX))
    done = score(str(tmp_path / "m.json"), "--rewards", "configs/rewards/all_gated.toml", "--json")
    best, quits, masked = json.loads(done.stdout)["trajectories"]
    assert (best["gate"], quits["gate"], masked["valid"]) == ("open", "closed", False)
    assert best["A_traj"] == -quits["A_traj"] == pytest.approx(1.1)
    assert {"rewards", "reward", "R_turn", "A_turn", "advantage"} == set(best["turns"][0])
    assert best["turns"][1]["A_turn"]["tests"] > best["turns"][0]["A_turn"]["tests"] and masked["turns"][0] == {
        "advantage": 0.0
    }


@pytest.mark.parametrize(
    ("turn", "recipe", "says"),
    [
        ({"tree": "a"}, "", "sample 0, turn 0: the attempt was not graded"),
        ({"confidence": float("nan")}, "", "turns.0.confidence: Input should be a finite number"),
        ({}, "critcs = []", "unknown key 'critcs', did you mean 'critics'?"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    tmp_path: Path, turn: dict[str, Any], recipe: str, says: str
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"trajectories": [{"outcome": "tests_fail", "turns": [turn]}] * 2}))
    (tmp_path / "r.toml").write_text(recipe)
    rewards = str(tmp_path / "r.toml") if recipe else "configs/rewards/verpo.toml"
    done = score(str(tmp_path / "m.json"), "--rewards", rewards)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and says in done.stderr
    assert done.stdout == ""
