"""The report of tasks that are solved through the tools, and what its command refuses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from agent_stage import Stage, make_prepared

from agent.trajectory import Outcome
from benchmarks.solve import Solved, main, report


def test_the_report_shows_each_trajectory_turn_by_turn(stage: Stage) -> None:
    played = asyncio.run(stage.play("gold"))
    solved = played.outcome is Outcome.TESTS_PASS
    found = [
        Solved("fenced", played.task, solved, 1.25, played, len(played.turns), 700),
        Solved("mini-swe-agent", played.task, False, 2.0, turns=3),
    ]
    text = report(found)
    sampled = sum(len(turn.sampled) for turn in played.turns)
    assert f"| pack-clamp | fenced | yes | 2 | {sampled} | 700 | 1.2 |" in text
    assert "| pack-clamp | mini-swe-agent | no | 3 | - | 0 | 2.0 |" in text
    assert "| 0 | rewrite {" in text and "| clamp is replaced. |" in text and "| 1 | submit | yes |" in text
    assert text.count("## pack-clamp") == 1


def test_rows_that_cannot_be_played_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = make_prepared(tmp_path).task.model_copy(update={"test_patch": "diff", "origin": None})
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row.model_dump_json() + "\n")
    assert main(["--rows", str(rows), "--backend", "local", "--task", "other"]) == 2
    assert main(["--rows", str(rows), "--backend", "local"]) == 2
    said = capsys.readouterr().err
    assert f"error: {rows} has no task other" in said and "name its folder with --repos DIR" in said
    assert "Traceback" not in said and json.loads(rows.read_text())["instance_id"] == "pack-clamp"
