"""``python -m benchmarks.solve``: the gold patch played through the agent's tools on real tasks, as a report.

Rows of SWE-bench are built from local clones. Each task is solved by the scripted gold solver in every action format
asked for, in Docker (or ``--backend local``), graded by its hidden tests in a fresh sandbox; with ``--mini`` also by
mini-swe-agent's own loop with a scripted model, over the same sandboxes. The report shows each trajectory turn by turn:
what was done, and what became a fact.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent import mini
from agent.chat import ByteTokenizer, Chat
from agent.config import AgentConfig
from agent.finish import SandboxGrader
from agent.formats import FORMATS
from agent.scaffold import Scaffold
from agent.scripted import scripted
from agent.store import SideFiles, Store
from agent.trajectory import Key, Outcome, Trajectory
from benchmarks.everything import Everything
from benchmarks.factsheet import sheet
from benchmarks.rows import load_tasks
from sandbox.protocol import Backend, Limits, SandboxError
from sandbox.task import Prepared, Status, Task, TaskError

LIMITS = Limits(memory_mb=2048, command_s=120.0)


@dataclass(frozen=True, slots=True)
class Solved:
    """One task played one way."""

    way: str
    task: str
    resolved: bool
    seconds: float
    trajectory: Trajectory | None = None
    """``None`` for an agent of others."""
    turns: int = 0
    tokens: int = 0
    """Of the whole conversation, by the embedded model's tokenizer where it is there, else bytes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print a line each, write the report; 1 when a task was not resolved, 2 for bad input."""
    options = _options(arguments)
    try:
        found = asyncio.run(_solve(options))
    except (TaskError, SandboxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out:
        options.out.write_text(report(found), encoding="utf-8")
    return 0 if all(one.resolved for one in found) else 1


def report(found: Sequence[Solved]) -> str:
    """The report in Markdown."""
    lines = [
        "| task | way | resolved | turns | sampled tokens | tokens of the conversation | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        sampled = sum(len(turn.sampled) for turn in one.trajectory.turns) if one.trajectory else "-"
        yes = "yes" if one.resolved else "no"
        cells = (one.task, one.way, yes, one.turns, sampled, one.tokens, f"{one.seconds:.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for one in found:
        if one.trajectory is not None:
            lines += ["", f"## {one.task}, {one.way}", "", *sheet(one.trajectory)]
    return "\n".join(lines) + "\n"


async def _solve(options: argparse.Namespace) -> list[Solved]:
    backend = _backend(options.backend)
    source = Everything(options.backend, options.repos)
    found: list[Solved] = []
    try:
        for task in _tasks(options):
            prepared = await asyncio.to_thread(source.prepare, task)
            ways = [_ours(prepared, backend, form, options.store) for form in options.format]
            ways += [_theirs(prepared, backend)] if options.mini else []
            for way in ways:
                found.append(await way)
                print(
                    f"{found[-1].task} {found[-1].way}: {'resolved' if found[-1].resolved else 'NOT resolved'}",
                    flush=True,
                )
    finally:
        await backend.close()
    return found


async def _ours(prepared: Prepared, backend: Backend, form: str, store: Path | None) -> Solved:
    config = AgentConfig.model_validate(
        {"format": form, "max_turns": 20, "max_tokens": 20_000, "max_context": 200_000, "shadow": "on"}
    )
    side = SideFiles(store / "bundles") if store else None
    grader = SandboxGrader(backend, limits=LIMITS)
    scaffold = Scaffold(config, backend, _One(prepared), grader, LIMITS, side)
    began = time.perf_counter()
    policy = scripted("gold", prepared, config, _chat())
    key = Key(seed=0, step=-1, prompt=0, sample=list(FORMATS).index(form))
    played = await scaffold.play_with_retries(prepared.task, policy, key)
    if store:
        Store(store / "trajectories.jsonl").append(played)
    seconds = time.perf_counter() - began
    task, resolved = prepared.task.instance_id, played.outcome is Outcome.TESTS_PASS
    tokens = sum(len(turn.prompt) + len(turn.sampled) for turn in played.turns)
    return Solved(form, task, resolved, seconds, played, len(played.turns), tokens)


async def _theirs(prepared: Prepared, backend: Backend) -> Solved:
    began = time.perf_counter()
    grader, model = SandboxGrader(backend, limits=LIMITS), mini.scripted(mini.gold_commands(prepared.task))
    played = await mini.play(prepared, backend, grader, model, LIMITS)
    resolved = played.verdict is not None and played.verdict.status is Status.RESOLVED
    answers = sum(message.get("role") == "assistant" for message in played.messages)
    tokens = sum(len(_chat().tokenizer.encode(str(message.get("content")))) for message in played.messages)
    seconds, task = time.perf_counter() - began, prepared.task.instance_id
    return Solved("mini-swe-agent", task, resolved, seconds, turns=answers, tokens=tokens)


@cache
def _chat() -> Chat:
    """The embedded model's chat where it is there: tokens that mean something."""
    from trainers.model.load import embedded, missing
    from trainers.model.tokenizer import ModelTokenizer

    return Chat(ByteTokenizer() if missing() else ModelTokenizer(embedded()))


@dataclass(frozen=True, slots=True)
class _One:
    """A source that holds one task."""

    prepared: Prepared

    def prepare(self, task: Task) -> Prepared:
        return self.prepared


def _backend(name: str) -> Backend:
    if name == "docker":
        from sandbox.docker import DockerBackend

        return DockerBackend()
    from sandbox.local import LocalBackend

    return LocalBackend()


def _tasks(options: argparse.Namespace) -> list[Task]:
    rows = load_tasks(options.rows)
    if not options.task:
        return list(rows)
    known = {task.instance_id: task for task in rows}
    absent = next((name for name in options.task if name not in known), None)
    if absent is not None:
        raise TaskError(f"{options.rows} has no task {absent}")
    return [known[name] for name in options.task]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solve", description=__doc__)
    parser.add_argument("--rows", required=True, help="a shipped set, or a JSONL file of rows")
    parser.add_argument("--repos", type=Path, help="folder with clones, for rows of SWE-bench")
    parser.add_argument("--task", action="append", help="only this task; repeat for several")
    parser.add_argument("--format", action="append", choices=FORMATS, default=None, help="an action format; repeat")
    parser.add_argument("--backend", choices=("docker", "local"), default="docker")
    parser.add_argument("--mini", action="store_true", help="play mini-swe-agent's loop too (the extra 'mini')")
    parser.add_argument("--store", type=Path, help="folder for trajectories and bundles")
    parser.add_argument("--out", type=Path, help="where the report goes")
    options = parser.parse_args(arguments)
    options.format = options.format or ["fenced"]
    return options


if __name__ == "__main__":
    sys.exit(main())
