"""Sandboxes: from a request to the first action, and the round trip of one action.

What neighbours do with containers is measured beside ours in :mod:`benchmarks.speed.containers`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.speed import containers
from benchmarks.speed.measure import Measured, timed
from sandbox.protocol import Backend, Spec

ACTIONS = 30
"""Round trips of one run."""


async def measure(runs: int) -> list[Measured]:
    """Every sandbox figure, ``runs`` times each."""
    from sandbox.images import unusable
    from sandbox.local import LocalBackend

    with tempfile.TemporaryDirectory(prefix="repodojo-speed-") as folder:
        tree = Path(folder)
        (tree / "calc.py").write_text("def add(a, b):\n    return a + b\n")
        found = await backend_figures(LocalBackend(), tree, runs)
        if reason := unusable():
            return found + [Measured(f"docker: {what}", "ms", note=reason) for what in ("first action", "round trip")]
        from sandbox.docker import DockerBackend

        docker = await backend_figures(DockerBackend(), tree, runs)
        return [*found, *docker, *await containers.measure(tree, runs)]


async def backend_figures(backend: Backend, tree: Path, runs: int) -> list[Measured]:
    """First action and round trip of one backend."""
    try:
        first = [1e3 * await _first_action(backend, tree) for _ in range(runs + 1)]
        sandbox = await backend.open(Spec(tree=tree))
        await sandbox.run("true")
        trips = [1e3 / ACTIONS * await timed(lambda: _times(lambda: sandbox.run("true"))) for _ in range(runs)]
        await sandbox.close()
    finally:
        await backend.close()
    name = backend.name
    return [
        Measured(f"{name}: request to first action's end, first of a process", "ms", (first[0],)),
        Measured(f"{name}: request to first action's end", "ms", tuple(first[1:])),
        Measured(f"{name}: round trip of one action", "ms", tuple(trips)),
    ]


async def _first_action(backend: Backend, tree: Path) -> float:
    """Seconds from the request to the end of the first action; closing is not waited for by an episode."""
    began = time.perf_counter()
    sandbox = await backend.open(Spec(tree=tree))
    await sandbox.run("true")
    seconds = time.perf_counter() - began
    await sandbox.close()
    return seconds


async def _times(action: Callable[[], Awaitable[object]]) -> None:
    for _ in range(ACTIONS):
        await action()
