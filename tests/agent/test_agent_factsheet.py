"""Stored trajectories as Markdown, with every fact of every turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_stage import Stage

from agent.store import Store
from agent.trajectory import Action, Facts
from benchmarks.factsheet import HEAD, main, sheet


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" |")]


def test_every_fact_has_a_cell_and_what_was_not_measured_is_empty(stage: Stage) -> None:
    played = asyncio.run(stage.play("gold"))
    facts = Facts(
        format_ok=True,
        tool_ok=True,
        exit_code=3,
        tree="sha256:" + "a" * 64,
        changed=True,
        attempt=True,
        diagnostics=4,
        suppressed=1,
        targets="sha256:" + "b" * 64,
        confidence=8 / 9,
        safe=False,
        bundle="sha256:" + "c" * 64,
        answer="sha256:" + "d" * 64,
        tests="0110",
    )
    action = Action(tool="lsp", args={"verb": "def", "selector": "a|b"})
    turn = played.turns[0].model_copy(update={"action": action, "facts": facts, "observation": "one\n`two` | three"})
    lines = list(sheet(played.model_copy(update={"turns": (turn, played.turns[1])})))
    assert cells(lines[2]) == list(HEAD) and lines[0].startswith("Ended: submitted; outcome tests_pass")
    said = ['lsp {"verb": "def", "selector": "a\\|b"}', "yes", "3", "aaaaaaaa", "new", "4 (1)", "bbbbbbbb", "0.889"]
    assert cells(lines[4]) == ["0", *said, "no", "cccccccc", "dddddddd", "2/4", "one \\`two\\` \\| three"]
    assert cells(lines[5])[:3] == ["1", "submit", "yes"] and set(cells(lines[5])[5:]) == {""}
    assert lines[-1] == "```" and "+    return max(low, min(x, high))" in lines


def test_a_file_is_printed_by_its_keys_and_one_without_episodes_is_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "trajectories.jsonl")
    for sample in (1, 0):
        store.append(asyncio.run(stage.play("quitter", sample)))
    assert main([str(tmp_path)]) == 0
    assert [line for line in capsys.readouterr().out.split("\n") if line.startswith("##")] == [
        "## pack-clamp, sample 0",
        "## pack-clamp, sample 1",
    ]
    assert main([str(tmp_path / "gone.jsonl")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'gone.jsonl'} holds no trajectory")
