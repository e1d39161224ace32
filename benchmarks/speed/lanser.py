"""lanser against what an agent does without it, on click 8.1.7: process reward, commands, batch, overhead.

Each pair is measured in turns in the same run, on a copy of the pinned source distribution. Every figure is a median
over at least :data:`LEAST` runs, but for the 500 separate commands, which are their own sample.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed import memory, neighbours
from benchmarks.speed.measure import Measured, Unmeasured, ratio, timed
from benchmarks.speed.workspace import CORE, lay_out, mixed, positions
from lsp.facts import Diagnoser
from lsp.queries import run_verb
from lsp.servers import find_program
from lsp.session import Session

ROWS = ("reward", "commands", "batch", "overhead", "neighbours", "memory")
"""What is measured, each on a workspace of its own: ``--only lanser.batch`` asks for one alone."""
LEAST = 20
QUERIES = 500
PATIENCE = "300"
"""Seconds that one request may take: a busy machine makes a cold server slow, not wrong."""


def measure(runs: int, rows: Sequence[str] = ROWS) -> Iterator[Measured]:
    """The figures of ``rows``. Raises :class:`sandbox.task.TaskError` when click cannot be had."""
    measures: dict[str, Callable[[Path, int], list[Measured]]] = {
        "reward": rewards,
        "commands": commands,
        "batch": lambda root, _: batches(root),
        "overhead": lambda root, runs: asyncio.run(overhead(root, runs)),
        "neighbours": neighbours.measure,
        "memory": lambda root, _: memory.measure(root),
    }
    for row in rows:
        with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
            yield from measures[row](lay_out(Path(folder) / "click"), max(runs, LEAST))


def rewards(root: Path, runs: int) -> list[Measured]:
    """The process reward after an edit with a warm server, against a new checker process for the same edit."""
    edits = Edits(root / CORE)
    program = str(find_program("basedpyright"))
    ways = {name: list[float]() for name in ("ty", "basedpyright", "process")}
    meters = {name: Diagnoser(root, server=name, targets=[CORE], timeout=120) for name in ("ty", "basedpyright")}
    for meter in meters.values():
        meter.diagnose()
    for _ in range(runs):
        edits.next()
        for name, meter in meters.items():
            ways[name].append(1e3 * _wall(lambda: _counted(meter)))  # noqa: B023
        ways["process"].append(1e3 * _wall(lambda: _run([program, "--outputjson", CORE], root, fine=(0, 1))))
    for meter in meters.values():
        meter.close()
    edits.undo()
    found = {name: Measured(f"process reward after an edit: {name}", "ms", tuple(ms)) for name, ms in ways.items()}
    process = found["process"]
    return [
        *found.values(),
        *(ratio(f"new basedpyright process / ours with {name}", process, found[name]) for name in meters),
    ]


def commands(root: Path, runs: int) -> list[Measured]:
    """``lanser def`` as a whole process, with and without the daemon."""
    asked = ["def", "py://click.core#Context.invoke", "--json"]
    with daemon(root) as lanser:
        lanser(*asked)
        warm, alone = list[float](), list[float]()
        for _ in range(runs):
            warm.append(1e3 * _wall(lambda: lanser(*asked)))
            alone.append(1e3 * _wall(lambda: lanser(*asked, "--no-daemon")))
    slow = Measured("lanser def --no-daemon (basedpyright)", "ms", tuple(alone))
    fast = Measured("lanser def through the daemon", "ms", tuple(warm))
    return [slow, fast, ratio("lanser def: --no-daemon / daemon", slow, fast)]


def batches(root: Path) -> list[Measured]:
    """Mixed queries as one ``lanser batch``, against as many commands through the daemon."""
    asked = mixed(root, QUERIES)
    lines = "".join(json.dumps({"cmd": cmd, "selector": selector}) + "\n" for cmd, selector in asked)
    with daemon(root) as lanser:
        lanser(*asked[0], "--json")
        separate = _wall(lambda: [lanser(*one, "--json") for one in asked])
        together = _wall(lambda: lanser("batch", given=lines))
    slow = Measured(f"{QUERIES} commands through the daemon", "s", (separate,))
    fast = Measured(f"lanser batch of the same {QUERIES} queries, its start included", "s", (together,))
    return [slow, fast, ratio("separate commands / batch", slow, fast)]


async def overhead(root: Path, runs: int) -> list[Measured]:
    """A warm ``def`` of ours, against the raw request to the same server (ty), in turns."""
    places = positions(root)
    async with Session(root, "ty") as session:
        ours, raw, busy = list[float](), list[float](), list[float]()
        for turn in range(runs * 4 + 4):
            line, column = places[turn % len(places)]
            asked = {"selector": f"{CORE}@L{line + 1}:C{column + 1}"}
            cpu = time.process_time()
            ours.append(1e3 * await timed(lambda: run_verb(session, "def", asked)))  # noqa: B023
            busy.append(1e3 * (time.process_time() - cpu))
            host = await session.start()
            uri = {"uri": session.workspace.uri(CORE)}
            params = {"textDocument": uri, "position": {"line": line, "character": column}}
            raw.append(1e3 * await timed(lambda: host.request("textDocument/definition", params)))  # noqa: B023
    extra = tuple(mine - theirs for mine, theirs in zip(ours[4:], raw[4:], strict=True))
    return [
        Measured("warm def: ours (ty)", "ms", tuple(ours[4:])),
        Measured("warm def: the raw server", "ms", tuple(raw[4:])),
        Measured("warm def: our layer's overhead", "ms", extra),
        Measured("warm def: all that our process does for it", "CPU-ms", tuple(busy[4:]), "whatever else is running"),
    ]


class Edits:
    """A file that is given another error at each step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = path.read_text("utf-8")
        self._count = 0

    def next(self) -> None:
        self._count += 1
        self._path.write_text(f'{self._text}\nadded_{self._count}: int = "x"\n', "utf-8")

    def undo(self) -> None:
        self._path.write_text(self._text, "utf-8")


@contextmanager
def daemon(root: Path) -> Generator[Callable[..., str]]:
    """A daemon for ``root``, and what runs a command against it."""
    with tempfile.TemporaryDirectory(prefix="lanser-") as runtime:
        env = {**os.environ, "XDG_RUNTIME_DIR": runtime}

        def lanser(*args: str, given: str | None = None) -> str:
            command = [sys.executable, "-m", "lsp.cli", *args, "-w", str(root), "--timeout", PATIENCE]
            return _run(command, Path.cwd(), given=given, env=env)

        lanser("daemon", "start")
        try:
            yield lanser
        finally:
            lanser("daemon", "stop")


def _counted(meter: Diagnoser) -> None:
    if meter.diagnose()["facts"]["count"] is None:
        raise Unmeasured("the language server gave no count")


def _run(
    command: Sequence[str],
    cwd: Path,
    *,
    given: str | None = None,
    env: dict[str, str] | None = None,
    fine: tuple[int, ...] = (0,),
) -> str:
    done = subprocess.run(command, cwd=cwd, input=given, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        raise Unmeasured(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


def _wall(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
