"""The agent: what a turn costs outside the model, what its facts cost, many episodes on one thread.

The yardstick for a turn is mini-swe-agent's own ``DockerEnvironment`` over the same image, in turns with ours; both run
the same command. A turn of ours holds everything between two samples: parsing, the command, the tree's hash, the
observation, the tokens of the next context. Facts are measured on a package of :data:`FILES` modules whose every file
is a target, with ty: the difference that they make to the same turn.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.chat import ByteTokenizer, Chat
from agent.config import AgentConfig
from agent.doubles import ExactGrader, Shelf
from agent.policy import Around, Sampled
from agent.scaffold import Scaffold
from agent.scripted import ANYWHERE, ScriptedPolicy, scripted
from agent.trajectory import Key, Trajectory
from benchmarks.speed.measure import Measured, ratio, timed
from sandbox.protocol import Backend
from sandbox.task import Prepared, Task

FILES = 300
TURNS = 30
"""Turns of one episode that are timed; the first, which starts what stays warm, is not."""
MANY = 256


@dataclass(slots=True)
class Timed(Around):
    """A policy that notes the time between its samples."""

    gaps: list[float] = field(default_factory=list[float])
    _left: float | None = None

    async def sample(self, context: Sequence[int], key: Key, turn: int, max_tokens: int) -> Sampled:
        now = time.perf_counter()
        if self._left is not None:
            self.gaps.append(now - self._left)
        sampled = await self.inner.sample(context, key, turn, max_tokens)
        self._left = time.perf_counter()
        return sampled


async def measure(runs: int) -> list[Measured]:
    """Every figure of the agent, ``runs`` times each."""
    from sandbox.images import unusable
    from sandbox.local import LocalBackend

    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        prepared = package(Path(folder))
        found = [*await turns(LocalBackend, prepared, runs), *await facts(LocalBackend, prepared), await many(runs)]
        if reason := unusable():
            return [*found, Measured("docker: bash turn outside the model", "ms", note=reason)]
        from sandbox.docker import DockerBackend

        docker = await turns(DockerBackend, prepared, runs)
        mini = await foreign_turns(runs)
        return [*found, *docker, mini, ratio("bash turn: mini-swe-agent's DockerEnvironment / ours", mini, docker[0])]


def package(folder: Path) -> Prepared:
    """A package of :data:`FILES` modules that import each other, as a task without a named function."""
    base = folder / "base" / "many"
    base.mkdir(parents=True)
    (base / "__init__.py").write_text("")
    for i in range(FILES - 1):
        before = f"from many.m{i - 1} import add as before\n\n\n" if i else ""
        inner = "before(a, b)" if i else "a + b"
        (base / f"m{i}.py").write_text(
            f'"""Module {i}."""\n\n{before}def add(a: int, b: int) -> int:\n    return {inner}\n\n\n'
            f"class Box{i}:\n    def __init__(self, value: int) -> None:\n        self.value = value\n"
        )
    for name in ("tests", "site"):
        (folder / name).mkdir()
    task = Task(
        instance_id="many",
        repo="many",
        base_commit="0" * 40,
        problem_statement="Nothing is wrong.",
        patch="",
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
    )
    return Prepared(task=task, base=folder / "base", tests=folder / "tests", site=folder / "site")


async def turns(make: Callable[[], Backend], prepared: Prepared, runs: int) -> list[Measured]:
    """A bash turn that changes nothing, facts included."""
    spent: list[float] = []
    name = ""
    for _ in range(runs):
        async with _backend(make) as backend:
            name = backend.name
            spent += await _gaps(backend, prepared, lambda _: "```bash\ntrue\n```", diagnostics=False)
    return [Measured(f"{name}: bash turn outside the model", "ms", tuple(1e3 * gap for gap in spent))]


async def facts(make: Callable[[], Backend], prepared: Prepared) -> list[Measured]:
    """An edit turn and a turn that changes nothing, with facts and without, and the difference of the medians."""

    def edit(turn: int) -> str:
        call = {"command": "insert", "path": f"many/m{7 * turn}.py", "insert_line": 0, "new_str": f"# {turn}"}
        return f"```edit\n{json.dumps(call)}\n```"

    found: dict[tuple[str, bool], Measured] = {}
    scripts: dict[str, Callable[[int], str]] = {"edit turn": edit, "still turn": lambda _: "```bash\ntrue\n```"}
    for what, script in scripts.items():
        for on in (True, False):
            async with _backend(make) as backend:
                gaps = await _gaps(backend, prepared, script, diagnostics=on)
            note = f"{FILES} files, all of them targets of ty" if on else "no diagnostics"
            found[what, on] = Measured(f"{what} {'with' if on else 'without'} facts", "ms", _ms(gaps), note)
    return [*found.values(), *(_difference(what, found) for what in scripts)]


async def many(runs: int) -> Measured:
    """Scripted episodes over memory sandboxes, all at once on one thread."""
    from sandbox.memory import MemoryBackend

    rates: list[float] = []
    threads = 0
    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        prepared = _small(Path(folder))
        for run in range(runs):
            backend = MemoryBackend()
            scaffold = Scaffold(_config(diagnostics=False), backend, Shelf((prepared,)), ExactGrader())
            names = ANYWHERE
            policies = [scripted(names[i % len(names)], prepared, scaffold.config) for i in range(MANY)]
            before = threading.active_count()
            keys = [Key(seed=run, step=0, prompt=0, sample=i) for i in range(MANY)]
            episodes = [scaffold.play(prepared.task, p, k) for p, k in zip(policies, keys, strict=True)]
            rates.append(MANY / await timed(lambda: asyncio.gather(*episodes)))  # noqa: B023
            threads = max(threads, threading.active_count() - before)
            await backend.close()
    note = f"{MANY} at once, {threads} more threads than before"
    return Measured("scripted episodes on one thread", "episodes/s", tuple(rates), note)


async def foreign_turns(runs: int) -> Measured:
    """The same command by mini-swe-agent's own environment over the same image."""
    from benchmarks.speed.containers import mini_swe_agent
    from sandbox.images import usable_image

    what = "mini-swe-agent's DockerEnvironment: one command"
    environment = await asyncio.to_thread(mini_swe_agent, str(usable_image()))
    if isinstance(environment, str):
        return Measured(what, "ms", note=environment)
    try:
        execute: Callable[[], Awaitable[object]] = lambda: asyncio.to_thread(environment.execute, {"command": "true"})  # noqa: E731
        await execute()
        return Measured(what, "ms", _ms([await timed(execute) for _ in range(max(runs, 5) * 3)]))
    finally:
        await asyncio.to_thread(environment.cleanup)


@asynccontextmanager
async def _backend(make: Callable[[], Backend]) -> AsyncGenerator[Backend]:
    backend = make()
    try:
        yield backend
    finally:
        await backend.close()


async def _gaps(backend: Backend, prepared: Prepared, script: Callable[[int], str], diagnostics: bool) -> list[float]:
    """Seconds between the samples of one episode, the first turn's left out."""
    policy = Timed(ScriptedPolicy("timed", lambda _, turn: script(turn), Chat(ByteTokenizer())))
    scaffold = Scaffold(_config(diagnostics), backend, Shelf((prepared,)), ExactGrader())
    played: Trajectory = await scaffold.play(prepared.task, policy, Key(seed=0, step=0, prompt=0, sample=0))
    if played.failure is not None or not all(turn.facts.tool_ok for turn in played.turns):
        return []
    return policy.gaps[1:]


def _config(diagnostics: bool) -> AgentConfig:
    return AgentConfig(
        max_turns=TURNS, max_context=200_000, diagnostics=diagnostics, tools=("bash", "edit", "rewrite", "submit")
    )


def _small(folder: Path) -> Prepared:
    prepared = package(folder)
    for path in sorted((folder / "base" / "many").glob("m*.py"))[3:]:
        path.unlink()
    return prepared


def _difference(what: str, found: dict[tuple[str, bool], Measured]) -> Measured:
    on, off = found[what, True].median, found[what, False].median
    if on is None or off is None:
        return Measured(f"facts of an {what}", "ms", note="the sandbox gave no answer")
    return Measured(f"facts of one {what}", "ms", (on - off,), "difference of the medians")


def _ms(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e3 * one for one in seconds)
