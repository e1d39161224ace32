"""The driving process of the chaos: plays scripted episodes in containers, hit by faults, and stores each as it ends.

``python -m benchmarks.chaos_play PLAN.json STORE.jsonl``. It may be killed at any moment and started again: what is in
the store is not played a second time. It says what it does on its standard output, one line each: ``wave NUMBER``,
``hit FAULT``, ``done INDEX``, the last one when the episode is on disk and not before.

A fault is planned for a wave of episodes. Those that hit one container hit each episode of the wave once, in the
sandbox that it plays in or in the one that grades it; those that hit the machine happen once in the wave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel

from agent.config import AgentConfig
from agent.scripted import scripted
from agent.store import Store
from agent.trajectory import Key
from benchmarks.everything import Everything
from benchmarks.rows import load_tasks
from sandbox.docker import DockerBackend
from sandbox.engine import connect
from sandbox.grading import grade
from sandbox.pool import Pool
from sandbox.protocol import Backend, Sandbox, Spec
from sandbox.task import Prepared, Task, Verdict
from trainers.rollout.player import EpisodePlayer, player

SCRIPTS: tuple[Literal["gold"], Literal["spoiler"]] = ("gold", "spoiler")
CONTAINER, SERVER, DISK, ENGINE, PARENT = (
    "container killed",
    "tool server killed",
    "disk full",
    "engine restarted",
    "parent killed",
)
SHARE = 3
"""One wave in so many gets a fault."""
TASKS = 6
DELAY_S = 0.6
"""A fault comes at most so long after a sandbox opened, or a wave began, in seconds."""
FULL_S = 1.5
"""How long the disk stays full, in seconds: longer than the first pause of a grading."""
RESTART_S = 120.0


class Wave(NamedTuple):
    """Episodes that are played at the same time."""

    number: int
    episodes: range
    fault: str


class Plan(BaseModel):
    """What is played, the same whoever plays it."""

    episodes: int
    at_once: int
    seed: int
    restart: str
    """Shell command that restarts the engine; empty: the engine is left alone."""
    faults: tuple[str, ...]

    def waves(self) -> Iterator[Wave]:
        """Every wave in its order; each third one has a fault, one kind after the other."""
        for number, first in enumerate(range(0, self.episodes, self.at_once)):
            hit = number % SHARE == SHARE - 1
            fault = self.faults[number // SHARE % len(self.faults)] if hit and self.faults else ""
            yield Wave(number, range(first, min(first + self.at_once, self.episodes)), fault)

    def script(self, index: int) -> Literal["gold", "spoiler"]:
        """What an episode plays."""
        return SCRIPTS[index // TASKS % len(SCRIPTS)]


def say(line: str) -> None:
    """Tell whoever watches."""
    print(line, flush=True)


# -- faults


@dataclass(slots=True)
class Due:
    """A fault that waits for the sandbox of one episode."""

    fault: str
    opens: int
    """Sandboxes of the episode that it lets pass."""


_due: ContextVar[Due | None] = ContextVar("due", default=None)


class Faulty:
    """A backend that hits the sandbox of an episode for which a fault is due, once, soon after it opened."""

    def __init__(self, inner: Backend, seed: int) -> None:
        self._inner, self.name = inner, inner.name
        self._random = random.Random(seed)
        self._hits: set[asyncio.Task[None]] = set()

    async def open(self, spec: Spec) -> Sandbox:
        sandbox = await self._inner.open(spec)
        due = _due.get()
        if due is not None and due.fault and (container := getattr(sandbox, "ident", "")):
            due.opens -= 1
            if due.opens < 0:
                self.start(lambda fault=due.fault: _HITS[fault](container), due.fault)
                due.fault = ""
        return sandbox

    def start(self, fault: Callable[[], None], name: str) -> None:
        """Let a fault happen within :data:`DELAY_S`."""
        self._hits.add(asyncio.create_task(self._hit(fault, name, self._random.uniform(0.0, DELAY_S))))

    async def settle(self) -> None:
        """Wait until every fault has happened."""
        hits, self._hits = self._hits, set()
        await asyncio.gather(*hits)

    async def close(self) -> None:
        await self._inner.close()

    async def _hit(self, fault: Callable[[], None], name: str, delay_s: float) -> None:
        import docker.errors

        await asyncio.sleep(delay_s)
        # A container that was removed meanwhile cannot be hit: that is no fault, and not counted as one.
        with contextlib.suppress(docker.errors.APIError, ProcessLookupError):
            await asyncio.to_thread(fault)
            say(f"hit {name}")


def _kill_container(container: str) -> None:
    connect().api.kill(container)


def _kill_server(container: str) -> None:
    pid = int(connect().api.inspect_container(container)["State"]["Pid"])
    if pid <= 1:  # it has ended already: 0 would name our own group
        raise ProcessLookupError
    os.kill(pid, signal.SIGKILL)


_HITS = {CONTAINER: _kill_container, SERVER: _kill_server}


def fill_disk() -> None:
    """Temporary files of this process go to a file system without room, for a while."""
    with full_disk():
        time.sleep(FULL_S)


@contextlib.contextmanager
def full_disk() -> Generator[None]:
    """Temporary files of this process go to a file system without room. Needs root."""
    with tempfile.TemporaryDirectory(prefix="repodojo-full-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder], check=True)
        try:
            Path(folder, "fill").write_bytes(b"x" * 4096)
            tempfile.tempdir = folder
            yield
        finally:
            tempfile.tempdir = None
            subprocess.run(["umount", "-l", folder], check=True)


def restart_engine(command: str) -> None:
    """Run the command that restarts the engine. Raises ``CalledProcessError``: a restart that fails is no fault of the
    kind that is tried here.
    """
    with tempfile.TemporaryFile() as said:  # a pipe would be held open by the daemon
        subprocess.run(command, shell=True, check=True, stdout=said, stderr=said, timeout=RESTART_S)


# -- episodes


class Stage(NamedTuple):
    """What episodes are played with."""

    plan: Plan
    store: Store
    player: EpisodePlayer
    faulty: Faulty
    tasks: list[Task]
    prepared: dict[str, Prepared]
    config: AgentConfig


async def play(plan: Plan, store: Store) -> None:
    """Play what the store does not hold yet, wave by wave."""
    done = {trajectory.key.step for trajectory in store.read()}
    tasks = [task for task in load_tasks("starter") if task.split == "train"][:TASKS]
    faulty = Faulty(Pool(DockerBackend(warm=2), keep=2 * plan.at_once), plan.seed + len(done))
    config, source = AgentConfig(), Everything("docker")
    folders = {task.instance_id: await asyncio.to_thread(source.prepare, task) for task in tasks}

    async def graded(prepared: Prepared, patch: str) -> Verdict:
        return await grade(prepared, patch, faulty)

    found = player(config, faulty, source, graded, starts=plan.at_once, graders=plan.at_once)
    stage = Stage(plan, store, found, faulty, tasks, folders, config)
    try:
        for wave in plan.waves():
            if left := [index for index in wave.episodes if index not in done]:
                await _wave(stage, wave, left)
    finally:
        await found.close()


async def _wave(stage: Stage, wave: Wave, left: list[int]) -> None:
    say(f"wave {wave.number}")
    playing = [asyncio.create_task(_episode(stage, wave, index)) for index in left]
    if wave.fault == ENGINE:
        stage.faulty.start(lambda: restart_engine(stage.plan.restart), wave.fault)
    if wave.fault == DISK:
        stage.faulty.start(fill_disk, wave.fault)
    await asyncio.gather(*playing)
    await stage.faulty.settle()


async def _episode(stage: Stage, wave: Wave, index: int) -> None:
    """One episode, to its record on disk."""
    if wave.fault in _HITS:
        _due.set(Due(wave.fault, index % 2))
    task = stage.tasks[index % len(stage.tasks)]
    policy = scripted(stage.plan.script(index), stage.prepared[task.instance_id], stage.config)
    key = Key(seed=stage.plan.seed, step=index, prompt=0, sample=0)
    stage.store.append(await stage.player.play(task, policy, key, lambda: None))
    say(f"done {index}")


def main() -> None:
    """Play a plan into a store."""
    plan, store = sys.argv[1:]
    asyncio.run(play(Plan.model_validate_json(Path(plan).read_bytes()), Store(Path(store))))


if __name__ == "__main__":
    main()
