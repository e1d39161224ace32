"""The speed measurements of rewards measure what they say; no figure is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.store import Store
from benchmarks.speed import rewards


def test_a_generated_run_is_read_back_whole_and_sealed(tmp_path: Path) -> None:
    rewards.write(tmp_path / "t.jsonl", 19)
    groups = list(Store(tmp_path / "t.jsonl").groups())
    assert [len(group) for group in groups] == [8, 8, 3]
    one = next(Store(tmp_path / "t.jsonl").read())
    assert len(one.turns) == 10 and len(one.tests) == 50
    assert sum(len(turn.prompt) + len(turn.sampled) for turn in one.turns) == 2000


def test_every_figure_is_measured() -> None:
    score, (replay, memory) = rewards.large_group(1), rewards.replayed(480)
    assert min(score.runs) > 0 and len(replay.runs) == 10 and min(replay.runs) > 0 and len(memory.runs) == 1


@pytest.mark.slow
@pytest.mark.model
def test_a_step_is_trained_to_tell_its_share() -> None:
    (share,) = rewards.share_of_one_step().runs
    assert 0 < share < 0.1


def test_the_share_of_a_step_is_read_from_the_newest_run_that_recorded_it(tmp_path: Path) -> None:
    assert "no run" in rewards.share(tmp_path).line()
    (tmp_path / "run").mkdir()
    lines = [{"kind": "sft"}, {"kind": "grpo", "timing": {"reward_share": 0.0002}}]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rewards.share(tmp_path).runs == (0.02,)
