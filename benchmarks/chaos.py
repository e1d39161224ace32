"""Chaos: scripted episodes in containers, a third of them hit by a fault, and what became of each.

``python -m benchmarks.chaos --episodes 500``. The episodes are played by a process of its own
(:mod:`benchmarks.chaos_play`). A fault is one of: the container is killed; its tool server is killed from outside; the
disk that the process writes to is full for a while (as root); the engine is restarted (``--restart COMMAND``); the
process is killed by ``kill -9`` and started again.

What must hold: an episode without a fault has the verdict that its script earns; of the faulted ones at least 95 % have
it too, after retries, and the rest end in a typed failure; none is graded 0 because of a fault; no finished episode is
lost or played twice; no container, process, temporary folder or mount is left behind. The run ends within ``--minutes``
whatever happens; what was not played by then is a failure.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from agent.store import Store
from agent.trajectory import Outcome, Trajectory
from benchmarks.chaos_play import CONTAINER, DISK, ENGINE, PARENT, SERVER, Plan
from sandbox.docker import LABEL, reap
from sandbox.engine import connect

RIGHT = {"gold": Outcome.TESTS_PASS, "spoiler": Outcome.TESTS_FAIL}
"""What the scripts earn."""
ENOUGH = 0.95
"""Of the faulted episodes, so many have the right verdict."""
KILL_S = (0.3, 3.0)
"""How long after the start of its wave the playing process is killed, in seconds."""
GONE_S = 10.0
"""A killed process's containers end within so many seconds."""
STALL_S = 240.0
"""A process that says nothing for so long has hung, in seconds."""
TOLD = 20
"""Lines of progress in all."""


class Ended(NamedTuple):
    """One episode: what it should have earned, what hit it, what it earned."""

    script: str
    fault: str
    trajectory: Trajectory

    @property
    def right(self) -> bool:
        return self.trajectory.outcome == RIGHT[self.script]

    @property
    def wronged(self) -> bool:
        """Whether it was graded as something that it did not do."""
        return not self.right and self.trajectory.outcome is not Outcome.INFRA

    @property
    def cause(self) -> str:
        """Why it is not right, by the type of its failure."""
        trajectory = self.trajectory
        why = trajectory.detail or (trajectory.verdict.detail if trajectory.verdict else "")
        return f"{trajectory.failure or trajectory.outcome}: {why}"


@dataclass(slots=True)
class Watched:
    """What was seen of the playing processes."""

    hits: Counter[str] = field(default_factory=Counter[str])
    done: Counter[int] = field(default_factory=Counter[int])
    """How often each episode was said to be on disk."""
    pids: list[int] = field(default_factory=list[int])
    lingering: int = 0
    """Containers that still ran :data:`GONE_S` after their process was killed."""
    broken: list[str] = field(default_factory=list[str])
    """Processes that ended on their own, and why."""


def drive(plan: Plan, folder: Path, until: float) -> Watched:
    """Play the plan to its end in processes that are killed as it says."""
    (folder / "tmp").mkdir()
    (folder / "plan.json").write_text(plan.model_dump_json())
    doomed = {wave.number for wave in plan.waves() if wave.fault == PARENT}
    watched, chance = Watched(), random.Random(plan.seed)
    while _killed(plan, folder, until, watched, doomed, chance):
        pass
    return watched


def _killed(plan: Plan, folder: Path, until: float, watched: Watched, doomed: set[int], chance: random.Random) -> bool:
    """One playing process, until it ends; whether it was killed as planned."""
    command = [sys.executable, "-m", "benchmarks.chaos_play", str(folder / "plan.json"), str(folder / "store.jsonl")]
    env = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with (folder / "errors.txt").open("wb") as errors:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, start_new_session=True
        )
    watched.pids.append(child.pid)
    try:
        for line in _lines(child, until):
            verb, _, rest = line.strip().partition(" ")
            if verb == "wave" and int(rest) in doomed:
                doomed.discard(int(rest))
                threading.Timer(chance.uniform(*KILL_S), child.kill).start()
            _note(plan, watched, verb, rest)
        child.wait(STALL_S)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        watched.broken.append(str(error))
    finally:
        child.kill()
        child.wait()
    if child.returncode == -signal.SIGKILL and not watched.broken:
        watched.hits[PARENT] += 1
        watched.lingering += _lingering(child.pid)
        return True
    if child.returncode and not watched.broken:
        last = (folder / "errors.txt").read_text(errors="replace").strip().splitlines()[-1:]
        watched.broken.append(f"the playing process ended with {child.returncode}: {''.join(last)}")
    return False


def _note(plan: Plan, watched: Watched, verb: str, rest: str) -> None:
    if verb == "hit":
        watched.hits[rest] += 1
    if verb == "done":
        watched.done[int(rest)] += 1
        if len(watched.done) % max(1, plan.episodes // TOLD) == 0:
            print(f"{len(watched.done)} episodes, hits so far: {dict(watched.hits)}", file=sys.stderr, flush=True)


def _lines(child: subprocess.Popen[str], until: float) -> Iterator[str]:
    """What the process says, to its end. Raises ``TimeoutError`` when it hangs or the time is over."""
    said: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            said.put(line)
        said.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        patience = min(STALL_S, until - time.monotonic())
        try:
            line = said.get(timeout=max(0.0, patience))
        except queue.Empty:
            why = "hung" if patience == STALL_S else "did not come to its end in time"
            raise TimeoutError(f"the playing process {why}") from None
        if line is None:
            return
        yield line


# -- what is left


def _containers(pids: Sequence[int], *, stopped: bool = True) -> list[dict[str, Any]]:
    rows = cast("list[dict[str, Any]]", connect().api.containers(all=stopped, filters={"label": LABEL}))
    return [row for row in rows if int(row["Labels"][LABEL].split(" ")[0]) in pids]


def _lingering(pid: int) -> int:
    """Containers of a killed process that still run after :data:`GONE_S`."""
    end = time.monotonic() + GONE_S
    while (left := _containers([pid], stopped=False)) and time.monotonic() < end:
        time.sleep(0.1)
    return len(left)


def _sessions() -> Iterator[int]:
    """The session of every process that lives."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            yield int(fields[3])


def left_behind(pids: Sequence[int], folder: Path) -> dict[str, int]:
    """How much of each kind is left of the processes whose temporary files lay below ``folder``."""
    return {
        "containers": len(_containers(pids)),
        "processes": sum(session in pids for session in _sessions()),
        "temporary files": len(list((folder / "tmp").iterdir())),
        "mounts": Path("/proc/self/mounts").read_text().count(str(folder)),
    }


# -- the report


def report(plan: Plan, ended: list[Ended], watched: Watched, left: dict[str, int]) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether everything held."""
    lines = ["| fault | hits | episodes | right verdict | typed failure | wrongly graded |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    good = not watched.broken and not watched.lingering and not any(left.values())
    for fault in ("", *plan.faults):
        group = [one for one in ended if one.fault == fault]
        right, wronged = sum(one.right for one in group), sum(one.wronged for one in group)
        cells = (fault or "none", watched.hits[fault], len(group), right, len(group) - right - wronged, wronged)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
        good &= wronged == 0 and (right == len(group) if not fault else watched.hits[fault] > 0 or not group)
    faulted = [one for one in ended if one.fault]
    share = sum(one.right for one in faulted) / max(1, len(faulted))
    lines.append(f"* faulted episodes with the right verdict: {share:.1%} (at least {ENOUGH:.0%})")
    causes = Counter(one.cause for one in ended if not one.right)
    lines += [f"* not right: {count} x {cause}" for cause, count in causes.most_common(5)]
    indices = [one.trajectory.key.step for one in ended]
    lost, again = len({*watched.done} - {*indices}), len(indices) - len({*indices})
    again += sum(count > 1 for count in watched.done.values())
    never = plan.episodes - len({*indices})
    lines.append(f"* finished episodes lost: {lost}; played again: {again}; never played: {never}")
    lines.append(f"* left behind: {', '.join(f'{count} {what}' for what, count in left.items())}")
    lines.append(f"* of killed parents, containers that ran on for {GONE_S:g} s: {watched.lingering}")
    lines += [f"* {why}" for why in watched.broken]
    return lines, good and not never and not lost and not again and share >= ENOUGH


def faults(restart: str) -> tuple[str, ...]:
    """Every fault that may be tried here; those that may not are said."""
    missing = {DISK: "needs root" if os.geteuid() else "", ENGINE: "" if restart else "needs --restart COMMAND"}
    for fault, why in missing.items():
        if why:
            print(f"not tried: {fault} ({why})", flush=True)
    return tuple(fault for fault in (CONTAINER, SERVER, DISK, PARENT, ENGINE) if not missing.get(fault))


def main() -> int:
    """Play, print the report; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--restart", default="", help="shell command that restarts the engine; none: it is left alone")
    parser.add_argument("--minutes", type=float, default=19.0, help="the run ends then, whatever happens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plan = Plan(
        episodes=options.episodes,
        at_once=options.at_once,
        seed=options.seed,
        restart=options.restart,
        faults=faults(options.restart),
    )
    began = time.monotonic()
    # Whoever ends this process ends what it started: the way out is that of every other error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="repodojo-chaos-") as folder:
        watched = drive(plan, Path(folder), began + 60 * options.minutes)
        stored = list(Store(Path(folder, "store.jsonl")).read())
        left = left_behind(watched.pids, Path(folder))
    reap(connect())
    lines, good = report(plan, _matched(plan, stored), watched, left)
    minutes = (time.monotonic() - began) / 60
    lines.append(f"* {minutes:.1f} minutes, {len(stored) / minutes:.0f} episodes a minute, {options.at_once} at a time")
    print("\n".join(lines))
    return int(not good)


def _matched(plan: Plan, stored: list[Trajectory]) -> list[Ended]:
    """The stored episodes with what was planned for them."""
    planned = {index: wave.fault for wave in plan.waves() for index in wave.episodes}
    return [Ended(plan.script(one.key.step), planned[one.key.step], one) for one in stored]


if __name__ == "__main__":
    sys.exit(main())
