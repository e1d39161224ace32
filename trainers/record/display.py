"""What a person sees of a run: a live panel on a terminal, plain lines elsewhere, always the same lines in ``log.txt``.

The display is told facts (a phase begins, an episode finished, a step was made) and keeps the counts it shows; nothing
reads it back, so no number of a run depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.trajectory import Key, Outcome, Trajectory
from trainers.record.tally import OUTCOMES, sampled, shares

EVERY_S = 20.0
"""Seconds between plain progress lines."""


@dataclass(slots=True)
class Board:
    """What is shown of the phase that runs."""

    title: str = "starting"
    total: int = 0
    done: int = 0
    running: int = 0
    tokens: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {outcome.value: 0 for outcome in Outcome})
    facts: dict[str, str] = field(default_factory=dict[str, str])
    """Free text by name: reward, loss, step."""
    began: float = field(default_factory=time.monotonic)
    until: float | None = None
    """Monotonic time at which the run's budget ends."""

    def eta(self) -> float | None:
        """Seconds to the end of this phase at its speed so far, or ``None`` when nothing is known."""
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.total - self.done) if self.done and self.total else None
        budget = None if self.until is None else max(0.0, self.until - time.monotonic())
        return min((x for x in (left, budget) if x is not None), default=None)

    def line(self) -> str:
        """One plain line."""
        spent = max(time.monotonic() - self.began, 1e-9)
        parts = [f"{self.title}: {self.done}/{self.total or '?'} done", f"{self.running} running"]
        if rates := shares(self.counts):
            parts.append(" ".join(f"{name} {rates[name]:.2f}" for name in (*OUTCOMES, "infra") if name in rates))
        parts += [f"{name} {value}" for name, value in self.facts.items()]
        parts.append(f"{self.tokens / spent:.0f} tokens/s")
        eta = self.eta()
        return ", ".join(parts + ([f"ETA {clock(eta)}"] if eta is not None else []))


class Display(AbstractContextManager["Display"]):
    """The display of one run. Use as a context manager."""

    def __init__(self, log: Path, console: Console | None = None) -> None:
        self.board = Board()
        self._console = console or Console()
        self._path = log
        self._file: TextIO | None = None
        self._live: Live | None = None
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        self._file = self._path.open("a")
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._file:
            self._file.close()

    def phase(self, title: str, total: int, left: float | None = None) -> None:
        """A phase begins: ``total`` episodes or batches (0: not known), at most ``left`` seconds."""
        until = None if left is None else time.monotonic() + left
        self.board = Board(title=title, total=total, until=until)
        self.say(f"{title} begins" + (f" ({total})" if total else ""))

    def started(self, key: Key) -> None:
        """An episode is being played."""
        self.board.running += 1

    def finished(self, trajectory: Trajectory) -> None:
        """An episode is stored; played now or read back."""
        board = self.board
        board.running = max(0, board.running - 1)
        board.done += 1
        board.tokens += sampled([trajectory])
        board.counts[trajectory.outcome] += 1
        self._sometimes()

    def advance(self, facts: Mapping[str, str], done: int | None = None, tokens: int = 0) -> None:
        """Progress that is not an episode."""
        self.board.facts.update(facts)
        self.board.done = self.board.done if done is None else done
        self.board.tokens += tokens
        self._sometimes()

    def say(self, text: str) -> None:
        """One line, now, to the screen and to the log."""
        self._spoke = time.monotonic()
        if self._file:
            self._file.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            self._file.flush()
        self._console.print(Text(text), soft_wrap=True)

    def _sometimes(self) -> None:
        if time.monotonic() - self._spoke < EVERY_S:
            return
        if self._live is None:
            self.say(self.board.line())
        elif self._file:
            self._spoke = time.monotonic()
            self._file.write(f"{time.strftime('%H:%M:%S')} {self.board.line()}\n")

    def _panel(self) -> RenderableType:
        board = self.board
        rates = shares(board.counts)
        table = Table.grid(padding=(0, 2))
        table.add_row(
            Text(board.title, style="bold"), f"{board.done}/{board.total or '?'} done", f"{board.running} running"
        )
        table.add_row(*(f"{name} {rates.get(name, 0.0):.2f}" for name in (*OUTCOMES, "infra")))
        table.add_row(*(f"{name} {value}" for name, value in board.facts.items()))
        speed = board.tokens / max(time.monotonic() - board.began, 1e-9)
        eta = board.eta()
        table.add_row(f"{speed:.0f} tokens/s", f"ETA {clock(eta) if eta is not None else '?'}")
        return Group(table, ProgressBar(total=board.total or None, completed=board.done, width=60))


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
