"""Chaos: scripted episodes in containers, a third of them hit by a fault, and what became of each.

``python -m benchmarks.chaos --episodes 500``. A fault is one of: the container is killed; its tool server is killed
from outside; the disk that this program writes to is full for a while; the engine is restarted (``--restart COMMAND``).
At the end parent processes with open sandboxes are killed by ``kill -9``.

What must hold: an episode without a fault has the verdict that its script earns; of the faulted ones at least 95 % have
it too, after retries, and the rest end in a typed failure; none is graded 0 because of a fault; nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from agent.config import AgentConfig
from agent.scripted import scripted
from agent.trajectory import Key, Outcome, Trajectory
from benchmarks.everything import Everything
from benchmarks.rows import load_tasks
from sandbox import owner
from sandbox.docker import LABEL, DockerBackend, reap
from sandbox.engine import connect
from sandbox.grading import grade
from sandbox.pool import Pool
from sandbox.protocol import Backend, Sandbox, Spec
from sandbox.task import Prepared, Task, Verdict
from trainers.player import EpisodePlayer, player

RIGHT = {"gold": Outcome.TESTS_PASS, "spoiler": Outcome.TESTS_FAIL}
"""What the scripts earn."""
RESTART = "engine restarted"
SHARE = 3
"""One episode in so many gets a fault."""


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


class Faulty:
    """A backend whose sandboxes are hit once, soon after they open, while a fault is due."""

    def __init__(self, inner: Backend, seed: int) -> None:
        self.inner, self.name = inner, inner.name
        self.due: list[str] = []
        self.hit: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, spec: Spec) -> Sandbox:
        sandbox = await self.inner.open(spec)
        if self.due and (container := getattr(sandbox, "ident", "")):
            fault = self.due.pop()
            task = asyncio.create_task(self._hit(fault, container, self._random.uniform(0.0, 0.6)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return sandbox

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.inner.close()

    async def _hit(self, fault: str, container: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self.hit[fault] += 1
        with contextlib.suppress(Exception):
            await asyncio.to_thread(_FAULTS[fault], container)


def _kill_container(container: str) -> None:
    connect().api.kill(container)


def _kill_server(container: str) -> None:
    pid = int(connect().api.inspect_container(container)["State"]["Pid"])
    if pid > 1:  # 0: it has ended already, and would name our own group
        os.kill(pid, signal.SIGKILL)


def _fill_disk(container: str) -> None:
    with full_disk():
        time.sleep(1.0)


_FAULTS = {"container killed": _kill_container, "tool server killed": _kill_server, "disk full": _fill_disk}


_FULL = threading.Lock()


@contextlib.contextmanager
def full_disk() -> Generator[None]:
    """Temporary files of this process go to a file system without room."""
    with _FULL, tempfile.TemporaryDirectory(prefix="repodojo-full-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder], check=True)
        try:
            Path(folder, "fill").write_bytes(b"x" * 4096)
            tempfile.tempdir = folder
            yield
        finally:
            tempfile.tempdir = None
            subprocess.run(["umount", "-l", folder], check=True)


PARENT = """
import asyncio, sys
from pathlib import Path
from sandbox.docker import DockerBackend
from sandbox.pool import Pool
from sandbox.protocol import Spec

async def main():
    pool = Pool(DockerBackend(warm=1))
    for _ in range(3):
        await (await pool.open(Spec(tree=Path(sys.argv[1])))).run("sleep 100 & true")
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def kill_parent(tree: Path) -> int:
    """Kill a process that holds three sandboxes; how many running containers of it are left after ten seconds."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tree)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "open\n"
        label = f"{LABEL}={_owner_of(parent.pid)}"
        parent.kill()
    left: list[dict[str, object]] = []
    for _ in range(100):
        if not (left := connect().api.containers(filters={"label": label})):
            break
        time.sleep(0.1)
    reap(connect())
    return len(left) + len(connect().api.containers(all=True, filters={"label": label}))


def _owner_of(pid: int) -> str:
    rows = connect().api.containers(filters={"label": LABEL})
    return next(row["Labels"][LABEL] for row in rows if row["Labels"][LABEL].startswith(f"{pid} "))


class Stage(NamedTuple):
    """What episodes are played with."""

    player: EpisodePlayer
    faulty: Faulty
    tasks: list[Task]
    prepared: dict[str, Prepared]
    config: AgentConfig
    restart: str


async def play(episodes: int, at_once: int, restart: str, seed: int) -> list[Ended]:
    """Play them in waves."""
    tasks = [task for task in load_tasks("starter") if task.split == "train"][:6]
    faulty = Faulty(Pool(DockerBackend(warm=1), keep=2), seed)
    config = AgentConfig()
    source = Everything("docker")
    folders = {task.instance_id: await asyncio.to_thread(source.prepare, task) for task in tasks}

    async def graded(prepared: Prepared, patch: str) -> Verdict:
        return await grade(prepared, patch, faulty)

    found = player(config, faulty, source, graded, starts=at_once, graders=at_once)
    kinds = [*_FAULTS, *([RESTART] if restart else [])]
    stage = Stage(found, faulty, tasks, folders, config, restart)
    ended: list[Ended] = []
    try:
        for start in range(0, episodes, at_once):
            wave = start // at_once
            numbers = range(start, min(start + at_once, episodes))
            ended += await _wave(stage, numbers, kinds[wave // SHARE % len(kinds)], wave)
            print(f"{len(ended)} episodes, faults so far: {dict(faulty.hit)}", file=sys.stderr, flush=True)
    finally:
        await found.close()
    return ended


async def _wave(stage: Stage, numbers: range, fault: str, wave: int) -> list[Ended]:
    """Some episodes at a time; every third wave is faulted: each fault hits one of the sandboxes that open next."""
    fault = fault if wave % SHARE == SHARE - 1 else ""
    if fault and fault != RESTART:
        stage.faulty.due = [fault] * len(numbers)

    async def one(index: int) -> Ended:
        task = stage.tasks[index % len(stage.tasks)]
        script = ("gold", "spoiler")[index // len(stage.tasks) % 2]
        policy = scripted(script, stage.prepared[task.instance_id], stage.config)
        key = Key(seed=0, step=index, prompt=0, sample=0)
        return Ended(script, fault, await stage.player.play(task, policy, key, lambda: None))

    playing = [asyncio.create_task(one(index)) for index in numbers]
    if fault == RESTART:
        await asyncio.sleep(0.5)
        stage.faulty.hit[fault] += 1
        await asyncio.to_thread(lambda: subprocess.run(stage.restart, shell=True, check=False, capture_output=True))
    ended = list(await asyncio.gather(*playing))
    stage.faulty.due = []
    return ended


def _cause(trajectory: Trajectory) -> str:
    return trajectory.detail or (trajectory.verdict.detail if trajectory.verdict else "") or str(trajectory.end)


def report(ended: list[Ended], left: int, parents: int) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether everything held."""
    lines = ["| fault | episodes | right verdict | typed failure | wrongly graded |", "| --- | --- | --- | --- | --- |"]
    good = left == 0 and parents == 0
    for fault in sorted({one.fault for one in ended}):
        group = [one for one in ended if one.fault == fault]
        right, wronged = sum(one.right for one in group), sum(one.wronged for one in group)
        lines.append(f"| {fault or 'none'} | {len(group)} | {right} | {len(group) - right - wronged} | {wronged} |")
        good &= wronged == 0 and (right == len(group) if not fault else True)
    faulted = [one for one in ended if one.fault]
    good &= sum(one.right for one in faulted) >= 0.95 * len(faulted)
    causes = Counter(_cause(one.trajectory) for one in ended if not one.right)
    lines += [f"* not right: {count} x {cause}" for cause, count in causes.most_common(5)]
    lines.append(f"* containers left behind: {left}; by killed parents: {parents}")
    return lines, good


def main() -> int:
    """Play, kill parents, print the report; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--parents", type=int, default=5, help="parent processes to kill")
    parser.add_argument("--restart", default="", help="shell command that restarts the engine; none: it is left alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ended = asyncio.run(play(options.episodes, options.at_once, options.restart, options.seed))
    with tempfile.TemporaryDirectory(prefix="repodojo-chaos-") as folder:
        Path(folder, "a.txt").write_text("a\n")
        parents = sum(kill_parent(Path(folder)) for _ in range(options.parents))
    left = len(connect().api.containers(all=True, filters={"label": f"{LABEL}={owner.me()}"}))
    lines, good = report(ended, left, parents)
    print("\n".join(lines))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
