"""Load: many sandboxes at once, for a while, with every kind of action; failures, leaks and memory.

``python -m benchmarks.load --sandboxes 64 --minutes 15``. All use the shell, a quarter the editor too, an eighth a
language server. Memory is what the kernel counts for each container's own processes, taken :data:`SAMPLES` times on the
way. What must hold: no failure, no container left behind, and no more memory in the last third of the time than in the
first, neither of a sandbox of any kind nor of the process that drives them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from sandbox import owner
from sandbox.docker import LABEL, DockerBackend
from sandbox.engine import connect
from sandbox.protocol import Limits, Sandbox, SandboxError, Spec

KINDS = ("shell", "editor", "language server")
DRIVER = "driving process"
PAUSE_S = 2.0
"""A scripted agent thinks this long between two turns, in seconds."""
SAMPLES = 30
"""How often memory is taken."""
GROWTH, GROWTH_MB = 0.1, 2.0
"""From the first third of the time to the last, memory may grow by this share or by so many MiB: allocators and caches
settle, leaks do not.
"""
Sample = dict[str, list[float]]
"""MiB of each, by kind."""


def kind_of(number: int) -> str:
    """What the sandbox of this number is used for: one in eight a language server, a quarter the editor."""
    return KINDS[2] if number % 8 == 7 else KINDS[1] if number % 4 == 1 else KINDS[0]


class Stage(NamedTuple):
    """What the agents share."""

    backend: DockerBackend
    tree: Path
    until: float
    sandboxes: int
    failures: list[str]
    kinds: dict[str, str]
    """Of each container."""


async def turn(sandbox: Sandbox, kind: str, number: int) -> None:
    """One turn of a scripted agent. Raises :class:`SandboxError`, or ``AssertionError`` for a wrong answer."""
    done = await sandbox.run(f"echo {number} > n.txt; cat n.txt; python3 -c 'print({number} * 2)'", 60)
    assert done.output.split() == [str(number), str(number * 2)], done
    if kind == KINDS[1]:
        edited = await sandbox.edit(command="view", path="calc.py")
        assert edited.ok, edited
    if kind == KINDS[2]:
        answer: dict[str, Any] = await sandbox.lsp("diag", path="calc.py")
        assert answer, "an empty bundle"


async def agent(number: int, stage: Stage) -> int:
    """Turns of one agent until the time is over; how many there were."""
    kind, turns = kind_of(number), 0
    try:
        sandbox = await stage.backend.open(Spec(tree=stage.tree, limits=Limits(memory_mb=512)))
        stage.kinds[getattr(sandbox, "ident", "")] = kind
        try:
            while time.monotonic() < stage.until:
                await turn(sandbox, kind, number)
                turns += 1
                await asyncio.sleep(PAUSE_S)
        finally:
            await sandbox.close()
    except (SandboxError, AssertionError, OSError) as error:
        stage.failures.append(f"{kind} {number}: {type(error).__name__}: {str(error)[:200]}")
    return turns


def memory_mb(kinds: Mapping[str, str]) -> Sample:
    """MiB of each container, by kind, and of this process."""
    import docker.errors

    client = connect()
    found: Sample = {kind: [] for kind in KINDS}
    for container, kind in list(kinds.items()):
        with contextlib.suppress(docker.errors.APIError, ValueError):  # closed meanwhile: an error, or an empty answer
            usage = client.api.stats(container, stream=False, one_shot=True)["memory_stats"]
            if "usage" in usage:
                found[kind].append((usage["usage"] - usage["stats"].get("inactive_file", 0)) / 2**20)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found | {DRIVER: [resident / 2**20]}


async def watch(stage: Stage, every_s: float) -> list[Sample]:
    """The memory, taken now and then while every sandbox is open."""
    taken: list[Sample] = []
    while time.monotonic() + every_s < stage.until:
        await asyncio.sleep(every_s)
        if len(stage.kinds) == stage.sandboxes:
            taken.append(await asyncio.to_thread(memory_mb, stage.kinds))
    return taken


def thirds(medians: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last third, in MiB."""
    part = max(1, len(medians) // 3)
    return mean(medians[:part]), mean(medians[-part:])


def flat(medians: Sequence[float]) -> bool:
    """Whether memory did not grow from the first third of the time to the last, beyond what :data:`GROWTH` allows."""
    first, last = thirds(medians)
    return last - first <= max(GROWTH_MB, GROWTH * first)


def report(turns: Sequence[int], taken: Sequence[Sample], failures: Sequence[str], left: int) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether everything held."""
    lines: list[str] = []
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for number, count in enumerate(turns):
        by_kind[kind_of(number)].append(count)
    for kind, counts in by_kind.items():
        each = f"median {median(counts):.0f} and least {min(counts)} of a sandbox"
        lines.append(f"* {kind}: {len(counts)} sandboxes, {sum(counts)} turns, {each}")
    good = not failures and not left and all(turns)
    lines += ["", "| memory of one, MiB | first third | last third | most | flat |", "| --- | --- | --- | --- | --- |"]
    for kind in (*by_kind, DRIVER):
        medians = [median(one[kind]) for one in taken if one[kind]]
        if not medians:
            lines.append(f"| {kind} | not taken: the run was too short | | | |")
            continue
        good &= flat(medians)
        first, last = thirds(medians)
        most = max(value for one in taken for value in one[kind])
        lines.append(f"| {kind} | {first:.1f} | {last:.1f} | {most:.1f} | {'yes' if flat(medians) else 'NO'} |")
    lines += ["", f"* failures: {len(failures)}; containers left behind: {left}"]
    return [*lines, *(f"  * {failure}" for failure in failures[:10])], good


async def run(sandboxes: int, minutes: float) -> int:
    """Run it, and print what was seen; 1 for a failure, a leak or growing memory."""
    with tempfile.TemporaryDirectory(prefix="repodojo-load-") as folder:
        tree = Path(folder)
        tree.chmod(0o755)
        (tree / "calc.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
        stage = Stage(DockerBackend(warm=0), tree, time.monotonic() + 60 * minutes, sandboxes, [], {})
        watching = asyncio.create_task(watch(stage, max(5.0, 60 * minutes / SAMPLES)))
        turns = await asyncio.gather(*(agent(number, stage) for number in range(sandboxes)))
        taken = await watching
        await stage.backend.close()
    left = len(connect().api.containers(all=True, filters={"label": f"{LABEL}={owner.me()}"}))
    lines, good = report(turns, taken, stage.failures, left)
    print("\n".join(lines))
    return int(not good)


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    return asyncio.run(run(options.sandboxes, options.minutes))


if __name__ == "__main__":
    sys.exit(main())
