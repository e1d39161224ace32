"""What a person sees: a live panel on a terminal, plain lines elsewhere and in the log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from agent.trajectory import End, Key, Trajectory
from trainers.record.display import Board, Display, clock


def trajectory(sample: int = 0) -> Trajectory:
    key = Key(seed=0, step=0, prompt=0, sample=sample)
    return Trajectory(task="t", key=key, policy="p", turns=(), end=End.TURNS)


def shown(display: Display, screen: io.StringIO) -> str:
    with display:
        display.phase("training", 4, left=90.0)
        display.started(trajectory().key)
        display.started(trajectory(1).key)
        display.finished(trajectory())
        display.advance({"reward": "0.250"})
        display.say("step 1 is done")
    return screen.getvalue()


def test_a_terminal_shows_a_live_panel_and_the_log_stays_plain(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    text = shown(Display(tmp_path / "log.txt", console), screen)
    for words in ("1/4 done", "1 running", "no_submit 1.00", "reward 0.250", "tokens/s", "ETA"):
        assert words in text
    log = (tmp_path / "log.txt").read_text()
    assert "step 1 is done" in log and "\x1b" not in log


def test_without_a_terminal_there_are_plain_lines_only(tmp_path: Path) -> None:
    screen = io.StringIO()
    text = shown(Display(tmp_path / "log.txt", Console(file=screen, width=40)), screen)
    assert text == "training begins (4)\nstep 1 is done\n"


def test_markup_in_a_message_is_shown_as_it_is(tmp_path: Path) -> None:
    screen = io.StringIO()
    with Display(tmp_path / "log.txt", Console(file=screen)) as display:
        display.say("rate 0.500 [0.1, 0.9] [bold]")
    assert screen.getvalue() == "rate 0.500 [0.1, 0.9] [bold]\n"


def test_the_line_of_progress_names_what_matters() -> None:
    board = Board(title="training", total=4, done=1, running=2, facts={"reward": "0.5"})
    board.counts["tests_pass"] = 1
    assert board.line().startswith("training: 1/4 done, 2 running, no_submit 0.00 empty_patch 0.00 tests_fail 0.00")
    assert "tests_pass 1.00 infra 0.00, reward 0.5, 0 tokens/s, ETA" in board.line()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3725, "1:02:05")])
def test_times_are_written_as_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
