"""Memory of lanser's own process, without its server, over 10,000 queries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.speed.measure import Measured
from benchmarks.speed.workspace import mixed

QUERIES = 10_000
MARKS = (1_000, 4_000, 7_000, QUERIES)
"""After how many queries the memory is read."""


def measure(root: Path) -> list[Measured]:
    """Resident memory at each mark, of a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [Measured("orchestrator's memory", "MB", note=done.stderr.strip()[-200:])]
    found: dict[str, float] = json.loads(done.stdout)
    return [Measured(f"orchestrator's memory after {mark} queries", "MB", (size,)) for mark, size in found.items()]


async def run(root: Path) -> dict[int, float]:
    """Megabytes by the number of queries answered, with the client that the daemon uses."""
    from lsp.client import PyglsClient
    from lsp.host import Options
    from lsp.session import Session
    from lsp.verbs import call

    asked = [one for one in mixed(root, 400) if one[0] != "refs"]
    found = dict[int, float]()
    async with Session(root, "ty", Options(connect=PyglsClient.start)) as session:
        for number in range(QUERIES):
            cmd, selector = asked[number % len(asked)]
            await call(session, cmd, {"selector": selector})
            if number + 1 in MARKS:
                found[number + 1] = resident()
    return found


def resident() -> float:
    """Resident megabytes of this process now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1])))))
