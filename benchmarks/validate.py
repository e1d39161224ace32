"""A task holds when its gold patch grades exactly 1 and the empty patch 0, by the real grader in fresh sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.pairs import derive
from sandbox.grading import grade
from sandbox.grading.hygiene import problems
from sandbox.protocol import Backend
from sandbox.task import Prepared, Status, Task, TaskError, TaskSource, Verdict

AT_ONCE = 2
"""Tasks graded at a time."""
TRIES = 2
"""Gradings of one patch before a failing sandbox counts against the task."""


async def validate(
    tasks: Sequence[Task], source: TaskSource, backend: Backend, at_once: int = AT_ONCE
) -> AsyncIterator[dict[str, Any]]:
    """One result a task, as they are done: ``instance_id``, ``gold`` (0 or 1), ``empty`` (0 or 1), ``fail_to_pass`` and
    ``pass_to_pass`` (how many pass before, how many after, how many there are), ``left_out`` (listed tests that are not
    among them), ``seconds``, ``detail``.

    A task that cannot be built, or whose folders give the answer away, has ``gold`` 0 and says why in ``detail``.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(task: Task) -> dict[str, Any]:
        async with slots:
            return await _validated(task, source, backend)

    running = [asyncio.create_task(one(task)) for task in tasks]
    try:
        for done in asyncio.as_completed(running):
            yield await done
    finally:
        for left in running:
            left.cancel()


async def _validated(task: Task, source: TaskSource, backend: Backend) -> dict[str, Any]:
    try:
        prepared = await asyncio.to_thread(source.prepare, task)
    except TaskError as error:
        return {"instance_id": task.instance_id, "gold": 0, "empty": 0, "seconds": 0.0, "detail": str(error)}
    given = {*task.FAIL_TO_PASS, *task.PASS_TO_PASS}
    out = sorted(given - {*prepared.task.FAIL_TO_PASS, *prepared.task.PASS_TO_PASS})
    prepared, differences = await derive(prepared, backend)
    task = prepared.task
    found = [*await asyncio.to_thread(problems, prepared), *differences]
    gold, empty = await _grade(prepared, task.patch, backend), await _grade(prepared, "", backend)
    why = [*found, *(verdict.detail for verdict in (gold,) if not verdict.grade)]
    why += [f"the empty patch: {empty.status}"] if empty.status is not Status.FAILED else []
    why += [f"{len(out)} listed tests are left out: {', '.join(out[:3])}{', ...' if out[3:] else ''}"] if out else []
    return {
        "instance_id": task.instance_id,
        "gold": 0 if found else gold.grade,
        "empty": empty.grade if empty.status in (Status.RESOLVED, Status.FAILED) else 1,
        "fail_to_pass": [_passing(empty, task.FAIL_TO_PASS), _passing(gold, task.FAIL_TO_PASS), len(task.FAIL_TO_PASS)],
        "pass_to_pass": [_passing(empty, task.PASS_TO_PASS), _passing(gold, task.PASS_TO_PASS), len(task.PASS_TO_PASS)],
        "left_out": len(out),
        "seconds": round(gold.seconds + empty.seconds, 2),
        "detail": "; ".join(why),
    }


def _passing(verdict: Verdict, tests: Sequence[str]) -> int:
    return sum(verdict.results.get(test, False) for test in tests)


async def _grade(prepared: Prepared, patch: str, backend: Backend) -> Verdict:
    verdict = await grade(prepared, patch, backend)
    for _ in range(TRIES - 1):
        if verdict.status is Status.INFRA:
            verdict = await grade(prepared, patch, backend)
    return verdict
