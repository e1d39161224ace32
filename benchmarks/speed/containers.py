"""Containers against what neighbours do: one action, a sandbox for the next episode, the price of grading.

Every figure is a ratio or a difference of two things measured in turns in one run, on one engine, with one image.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.speed.measure import Measured, ratio, timed
from sandbox.protocol import Backend, Sandbox, Spec

TRIPS = 1000
"""Actions behind the 99th percentile."""
BURST, SETTLE_S = 10, 0.5
"""Actions in a row of one kind, and the pause before them: an engine goes on working after it has answered, which is
not the next one's to pay."""
PAIR = "markupsafe-2.1.4-to-2.1.5"
"""The release pair whose grading is measured."""


async def measure(tree: Path, runs: int) -> list[Measured]:
    """Every container figure."""
    return [*await _actions(tree, runs), *await _reuse(tree, runs), *await _grading(runs)]


async def _actions(tree: Path, runs: int) -> list[Measured]:
    from sandbox.docker import DockerBackend
    from sandbox.engine import connect
    from sandbox.images import usable_image

    client, image = connect(), str(usable_image())
    container = client.containers.run(image, ["sleep", "600"], detach=True, network_mode="none", init=True)
    other = mini_swe_agent(image)
    backend = DockerBackend()
    sdk, theirs, ours, many = list[float](), list[float](), list[float](), list[float]()

    async def burst(into: list[float], action: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(SETTLE_S)
        into.extend([1e3 * await timed(action) for _ in range(BURST)])

    try:
        sandbox = await backend.open(Spec(tree=tree))
        await sandbox.run("true")
        for _ in range(max(runs, 10)):
            await burst(sdk, lambda: asyncio.to_thread(container.exec_run, ["sh", "-c", "true"]))
            await burst(ours, lambda: sandbox.run("true"))
            if not isinstance(other, str):
                await burst(theirs, lambda: asyncio.to_thread(other.execute, {"command": "true"}))
        await asyncio.sleep(SETTLE_S)
        many = [1e3 * await timed(lambda: sandbox.run("true")) for _ in range(TRIPS)]
    finally:
        await backend.close()
        await asyncio.to_thread(lambda: container.remove(force=True))
        if not isinstance(other, str):
            await asyncio.to_thread(other.cleanup)
    own = Measured("one action through the tool server", "ms", tuple(ours))
    plain = Measured("one action through docker exec (SDK)", "ms", tuple(sdk))
    mini = Measured("one action through mini-swe-agent", "ms", tuple(theirs), other if isinstance(other, str) else "")
    last = Measured("one action: 99th percentile", "ms", (quantiles(many, n=100)[98],), f"of {TRIPS}")
    return [
        own, plain, mini, last, ratio("docker exec / ours", plain, own), ratio("mini-swe-agent / ours", mini, own)
    ]  # fmt: skip


def mini_swe_agent(image: str) -> Any:
    """Its container environment on an image; why not, where it is not installed."""
    os.environ.setdefault("MSWEA_SILENT_STARTUP", "1")
    try:
        from minisweagent.environments.docker import (  # pyright: ignore[reportMissingImports] - optional
            DockerEnvironment,
        )
    except ImportError:
        return "mini-swe-agent is not installed (the extra 'mini')"
    return DockerEnvironment(image=image, cwd="/tmp", run_args=["--rm", "--network", "none"])


async def _reuse(tree: Path, runs: int) -> list[Measured]:
    """A new container, one made ahead, and a used one that was proved clean: from the request to the first action."""
    from sandbox.docker import DockerBackend
    from sandbox.pool import Pool

    cold, pool = DockerBackend(warm=0), Pool(DockerBackend(warm=0), keep=1)
    new, used, cycle = list[float](), list[float](), list[float]()
    try:
        await (await pool.open(Spec(tree=tree))).close()
        for _ in range(max(runs, 5)):
            began = time.perf_counter()
            new.append(1e3 * await _first(cold, tree))
            fresh = time.perf_counter()
            used.append(1e3 * await _first(pool, tree))
            cycle.append((fresh - began) / (time.perf_counter() - fresh))
        again = pool.reused
    finally:
        await cold.close()
        await pool.close()
    slow = Measured("a new container, to the first action's end", "ms", tuple(new))
    fast = Measured("from the pool, to the first action's end", "ms", tuple(used), f"{again} of {len(used)} used again")
    whole = Measured("new container / pool, wiping and proof included", "times", tuple(cycle))
    return [slow, fast, ratio("new container / pool", slow, fast), whole]


async def _first(backend: Backend, tree: Path) -> float:
    opened: list[Sandbox] = []

    async def open_and_run() -> None:
        opened.append(await backend.open(Spec(tree=tree)))
        await opened[0].run("true")

    seconds = await timed(open_and_run)
    await opened[0].close()
    return seconds


async def _grading(runs: int) -> list[Measured]:
    """One grading of a release pair against the bare pytest run in a sandbox of the same image that is open already."""
    from benchmarks.everything import Everything
    from benchmarks.rows import load_tasks
    from sandbox.docker import DockerBackend
    from sandbox.grading import apply, grade
    from sandbox.grading.tree import read_frozen, write_tree

    task = next(task for task in load_tasks("release-pairs") if task.instance_id == PAIR)
    prepared = await asyncio.to_thread(Everything("docker").prepare, task)
    backend = DockerBackend()
    bare, graded = list[float](), list[float]()
    import tempfile

    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        root = Path(folder) / "tree"
        tree = {**apply(read_frozen(prepared.base), prepared.task.patch), **read_frozen(prepared.tests)}
        write_tree(tree, root)
        spec = Spec(
            tree=root, site=prepared.site, source_root=task.source_root, image=prepared.image, python=prepared.python
        )
        try:
            sandbox = await backend.open(spec)
            for _ in range(max(runs, 5)):
                bare.append(await timed(lambda: sandbox.run(_pytest(prepared.task.test_files, prepared.python))))
                graded.append(await timed(lambda: grade(prepared, prepared.task.patch, backend)))
        finally:
            await backend.close()
    over = tuple(whole - plain for whole, plain in zip(graded, bare, strict=True))
    return [
        Measured("bare pytest run of a release pair", "s", tuple(bare)),
        Measured("grading of the same release pair", "s", tuple(graded)),
        Measured("grading: overhead over the bare run", "s", over),
    ]


def _pytest(files: Sequence[str], python: str | None) -> str:
    return f"{python or 'python3'} -m pytest -q -p no:cacheprovider {' '.join(files)}"
