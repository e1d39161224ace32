"""Load: many sandboxes at once, for a while, with every kind of action; failures, leaks and memory.

``python -m benchmarks.load --sandboxes 64 --minutes 15``. All use the shell, a quarter the editor too, an eighth a
language server. Memory is what the kernel counts for each container's own processes, taken a few times on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from sandbox import owner
from sandbox.docker import LABEL, DockerBackend
from sandbox.engine import connect
from sandbox.protocol import Limits, Sandbox, SandboxError, Spec

KINDS = ("shell", "editor", "language server")
PAUSE_S = 2.0
"""A scripted agent thinks this long between two turns, in seconds."""


def kind_of(number: int) -> str:
    """What the sandbox of this number is used for: one in eight a language server, a quarter the editor."""
    return KINDS[2] if number % 8 == 7 else KINDS[1] if number % 4 == 1 else KINDS[0]


class Stage(NamedTuple):
    """What the agents share."""

    backend: DockerBackend
    tree: Path
    until: float
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


def memory_mb(kinds: Mapping[str, str]) -> dict[str, list[float]]:
    """MiB of each container, by kind."""
    import docker.errors

    client = connect()
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for container, kind in list(kinds.items()):
        with contextlib.suppress(docker.errors.APIError, ValueError):  # closed meanwhile: an error, or an empty answer
            usage = client.api.stats(container, stream=False, one_shot=True)["memory_stats"]
            if "usage" in usage:
                found[kind].append((usage["usage"] - usage["stats"].get("inactive_file", 0)) / 2**20)
    return found


async def watch(stage: Stage, every_s: float) -> list[dict[str, list[float]]]:
    """The containers' memory, taken now and then."""
    taken: list[dict[str, list[float]]] = []
    while time.monotonic() + every_s < stage.until:
        await asyncio.sleep(every_s)
        taken.append(await asyncio.to_thread(memory_mb, stage.kinds))
    return taken


async def run(sandboxes: int, minutes: float) -> int:
    """Run it, and print what was seen; 1 for a failure or a leak."""
    with tempfile.TemporaryDirectory(prefix="repodojo-load-") as folder:
        tree = Path(folder)
        tree.chmod(0o755)
        (tree / "calc.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
        stage = Stage(DockerBackend(warm=0), tree, time.monotonic() + 60 * minutes, [], {})
        numbers = range(sandboxes)
        watching = asyncio.create_task(watch(stage, max(5.0, 6 * minutes)))
        turns = await asyncio.gather(*(agent(number, stage) for number in numbers))
        taken = await watching
        await stage.backend.close()
    left = len(connect().api.containers(all=True, filters={"label": f"{LABEL}={owner.me()}"}))
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for number, count in zip(numbers, turns, strict=True):
        by_kind[kind_of(number)].append(count)
    for kind, counts in by_kind.items():
        print(f"* {kind}: {len(counts)} sandboxes, {sum(counts)} turns, median {median(counts):.0f} a sandbox")
    for kind in KINDS:
        medians = [f"{median(one[kind]):.0f}" for one in taken if one[kind]]
        print(f"* memory of one sandbox with a {kind}, MiB, over time: {', '.join(medians)}")
    print(f"* failures: {len(stage.failures)}; containers left behind: {left}")
    print("\n".join(f"  * {failure}" for failure in stage.failures[:10]))
    return int(bool(stage.failures) or left > 0)


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    return asyncio.run(run(options.sandboxes, options.minutes))


if __name__ == "__main__":
    sys.exit(main())
