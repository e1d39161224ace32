"""One measured quantity, and how it is printed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


class Unmeasured(Exception):
    """Something that is measured did not do its work; one sentence."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A quantity with its runs, or the reason why it was not measured."""

    name: str
    unit: str
    runs: tuple[float, ...] = ()
    note: str = ""

    @property
    def median(self) -> float | None:
        return median(self.runs) if self.runs else None

    def line(self) -> str:
        """``name: median unit (min to max, n runs; note)``."""
        if not self.runs:
            return f"{self.name}: not measured, {self.note}"
        spread = f"{short(min(self.runs))} to {short(max(self.runs))}, {len(self.runs)} runs"
        return f"{self.name}: {short(median(self.runs))} {self.unit} ({spread}{'; ' + self.note if self.note else ''})"

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"median": self.median}


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall and CPU seconds of this process, all its threads."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> Clock:
        """What has passed."""
        now = Clock.now()
        return Clock(now.wall - self.wall, now.cpu - self.cpu)


def ratio(name: str, slow: Measured, fast: Measured) -> Measured:
    """How many times ``fast`` beats ``slow``: the ratio of their medians; without runs where either has none."""
    if slow.median is None or not fast.median:
        return Measured(name, "times", note=slow.note or fast.note)
    return Measured(name, "times", (slow.median / fast.median,), "ratio of medians")


def paired(name: str, slow: Measured, fast: Measured) -> Measured:
    """How many times ``fast`` beats ``slow``, run by run: for runs that differ among themselves more than the two."""
    ratios = tuple(theirs / ours for theirs, ours in zip(slow.runs, fast.runs, strict=True))
    return Measured(name, "times", ratios, "each run against its counterpart")


def rate(name: str, unit: str, amounts: Sequence[float], seconds: Sequence[float], note: str = "") -> Measured:
    """Amount a second, run by run."""
    return Measured(name, unit, tuple(a / s for a, s in zip(amounts, seconds, strict=True)), note)


async def timed(action: Callable[[], Awaitable[object]]) -> float:
    """Wall seconds of one awaited action."""
    began = time.perf_counter()
    await action()
    return time.perf_counter() - began


def short(number: float) -> str:
    """Three significant digits."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
