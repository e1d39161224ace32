"""``python -m benchmarks.speed``: one quantity a line, or JSON with ``--json``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable

from benchmarks.speed import agents, episodes, lanser, overlap, rewards, sandboxes, tokens, update, yardstick
from benchmarks.speed.measure import Measured, Unmeasured
from sandbox.protocol import SandboxError
from sandbox.task import TaskError
from trainers.model.tokenizer import ModelError

PARTS = ("agents", "lanser", "sandboxes", "episodes", "tokens", "prefix", "update", "overlap", "trl", "rewards")
ROWS = tuple(f"lanser.{row}" for row in lanser.ROWS)
"""Parts of ``lanser`` that can be asked for alone."""


def main() -> int:
    """Measure and print; a part that cannot be measured here says why."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement")
    parser.add_argument("--only", choices=(*PARTS, *ROWS), action="append", help="only this part; repeat for several")
    parser.add_argument("--tasks", type=int, default=4, help="tasks of the scripted episodes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    found: list[Measured] = []
    for part in options.only or PARTS:
        for measured in _part(part, options):
            found.append(measured)
            if not options.json:
                print(measured.line(), flush=True)
    if options.json:
        print(json.dumps({"machine": machine(), "measured": [measured.record() for measured in found]}))
    else:
        print(f"machine: {machine()}")
    return 0


def machine() -> str:
    """What the numbers were measured on, and how busy it was."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"


def _part(name: str, options: argparse.Namespace) -> Iterable[Measured]:
    measures: dict[str, Callable[[], Iterable[Measured]]] = {
        "lanser": lambda: lanser.measure(options.runs),
        **{row: lambda row=row: lanser.measure(options.runs, (row.partition(".")[2],)) for row in ROWS},
        "agents": lambda: asyncio.run(agents.measure(options.runs)),
        "sandboxes": lambda: asyncio.run(sandboxes.measure(options.runs)),
        "episodes": lambda: _episodes(options.runs, options.tasks),
        "tokens": lambda: _tokens(options.runs, options.threads),
        "update": lambda: update.measure(options.runs),
        "overlap": lambda: overlap.measure(options.runs),
        "trl": lambda: yardstick.measure(options.runs),
        "rewards": lambda: rewards.measure(options.runs),
        "prefix": lambda: _prefix(options.runs, options.threads),
    }
    try:
        yield from measures[name]()
    except (SandboxError, TaskError, ModelError, Unmeasured) as error:
        yield Measured(name, "", note=" ".join(str(error).split()))


def _episodes(runs: int, count: int) -> list[Measured]:
    from agent.config import AgentConfig
    from benchmarks.pypi import PyPISource
    from benchmarks.rows import load_tasks
    from sandbox.choose import choose
    from sandbox.config import SandboxConfig
    from sandbox.grading import GradeCache
    from sandbox.task import Prepared, Verdict
    from trainers.rollout.player import player

    tasks = [task for task in load_tasks("starter") if task.split == "train"][:count]
    backend, _ = choose(SandboxConfig(backend="local"))
    config = AgentConfig()

    async def grade(prepared: Prepared, patch: str) -> Verdict:
        return await GradeCache().grade(prepared, patch, backend)

    at_once = os.cpu_count() or 1
    found = player(config, backend, PyPISource(), grade, starts=at_once, graders=at_once)
    return asyncio.run(episodes.measure(runs, tasks, PyPISource(), found, config, 2 * at_once))


def _prefix(runs: int, threads: int) -> list[Measured]:
    from benchmarks.speed import prefix
    from trainers.config import ModelConfig
    from trainers.model.load import missing

    reason = missing()
    config = ModelConfig(threads=threads) if not reason else ModelConfig(name="tiny", threads=threads)
    return prefix.measure(runs, config, f"{config.name}{f' because {reason}' if reason else ''}, {threads} threads")


def _tokens(runs: int, threads: int) -> list[Measured]:
    from trainers.config import LossConfig, ModelConfig, OptimConfig, SftConfig
    from trainers.machine import local_machine
    from trainers.model.load import missing

    reason = missing()
    config = ModelConfig(threads=threads) if not reason else ModelConfig(name="tiny", threads=threads)
    name = f"{config.name}{f' because {reason}' if reason else ''}, {threads} threads"
    return tokens.measure(runs, lambda: local_machine(config, OptimConfig(), LossConfig(), SftConfig(), seed=0), name)


if __name__ == "__main__":
    sys.exit(main())
