"""What a run's folder refuses, and what it looks like after something failed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from agent.policy import PolicyError
from sandbox.protocol import SandboxError
from trainers.doubles import TableEngine, TableLearner
from trainers.errors import TrainingError, boundary
from trainers.record import checkpoint
from trainers.record.checkpoint import Phase, State
from trainers.record.folder import digest, hold
from trainers.record.metrics import Metrics, read


def test_a_resumed_run_with_another_config_is_refused_in_one_sentence_that_names_the_key(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hold(run, "[train]\nprompts = 6\n", resume=False):
        pass
    with pytest.raises(TrainingError, match=r"train\.prompts was 6 and is now 8") as refusal:
        with hold(run, "[train]\nprompts = 8\n", resume=True):
            pytest.fail("held")
    assert "\n" not in str(refusal.value)
    with hold(run, "[train]\nprompts = 6\n", resume=True) as name:
        assert name == digest("[train]\nprompts = 6\n")


def test_a_folder_in_use_is_not_started_anew(tmp_path: Path) -> None:
    with hold(tmp_path / "run", "a = 1\n", resume=False):
        pass
    with pytest.raises(TrainingError, match="already in use; 'dojo train --resume"):
        with hold(tmp_path / "run", "a = 1\n", resume=False):
            pytest.fail("held")


def test_a_folder_without_a_run_is_not_resumed_and_stays_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run to resume"):
        with hold(tmp_path / "none", "a = 1\n", resume=True):
            pytest.fail("held")
    assert not (tmp_path / "none").exists()


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hold(run, "a = 1\n", resume=False):
        with pytest.raises(TrainingError, match="another process is training"):
            with hold(run, "a = 1\n", resume=True):
                pytest.fail("held")


def save(run: Path, state: State, keep: int = 2) -> State:
    run.mkdir(exist_ok=True)
    return checkpoint.save(run, state, TableLearner(TableEngine()), keep)


def test_only_the_newest_checkpoints_stay_and_the_latest_is_found(tmp_path: Path) -> None:
    state = State(config="c")
    for step in range(4):
        state = save(tmp_path, state.model_copy(update={"step": step}))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000003", "000004"]
    newest = checkpoint.latest(tmp_path)
    assert newest and checkpoint.load(newest, "c") == state and state.step == 3


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    save(tmp_path, State(config="c", phase=Phase.GRPO))
    newest = checkpoint.latest(tmp_path)
    assert newest
    with pytest.raises(TrainingError, match="was made with another config"):
        checkpoint.load(newest, "d")
    (newest / "state.json").write_text("{")
    with pytest.raises(TrainingError, match="no readable state"):
        checkpoint.load(newest, "c")


class FullDisk(TableLearner):
    def save(self, folder: Path) -> None:
        (folder / "half").write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "half"))


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path: Path) -> None:
    state = save(tmp_path, State(config="c"))
    with pytest.raises(TrainingError, match="the disk is full") as sentence:
        with boundary(tmp_path):
            checkpoint.save(tmp_path, state, FullDisk(TableEngine()), 2)
    assert f"dojo train --resume {tmp_path}" in str(sentence.value)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000001"]


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hold(run, "a = 1\n", resume=False):
        save(run, State(config="c"))
        (run / "checkpoints" / ".000002.new").mkdir()
    with hold(run, "a = 1\n", resume=True):
        assert [p.name for p in (run / "checkpoints").iterdir()] == ["000001"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SandboxError("the Docker engine does not answer"), "the sandbox failed .the Docker engine does not answer."),
        (PolicyError("CUDA out of memory"), "the engine that samples failed"),
        (OSError(errno.EDQUOT, "quota"), "the disk quota is used up"),
        (MemoryError(), "memory ran out"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_with_the_way_out(error: Exception, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence) as seen:
        with boundary(Path("runs/x")):
            raise error
    assert "dojo train --resume runs/x" in str(seen.value)


def test_a_fault_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        with boundary(Path("runs/x")):
            raise ZeroDivisionError
    with pytest.raises(FileNotFoundError):
        with boundary(Path("runs/x")):
            raise FileNotFoundError(errno.ENOENT, "no such file")


def test_a_torn_metrics_line_is_dropped_and_a_resumed_run_keeps_what_its_checkpoint_covers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(3):
        metrics.append({"step": step})
    with path.open("a") as file:
        file.write('{"step": 3, "rew')
    assert [record["step"] for record in read(path)] == [0, 1, 2]
    resumed = Metrics(path, lines=2)
    resumed.append({"step": "again"})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, "again"]
    assert resumed.lines == 3
