"""Shadow grades: the hidden tests of a tree that an episode passed through, as a vector of one digit per test.

The tree is graded by the recipe of every grade, off to the side, from its patch: what an agent does meanwhile cannot
reach its grading, and a grading cannot be seen from where the agent works. :class:`~sandbox.grading.grade.GradeCache`
keeps it by task and tree hash, so that a tree which several attempts reach, or which is submitted in the end, is graded
once.

A vector is honest or zero: an attempt that tampers or is flagged passes no test, because what a grade earns no credit
for, an intermediate one must not earn either.
"""

from __future__ import annotations

from sandbox.protocol import SandboxError
from sandbox.task import Status, Task, Verdict


def listed(task: Task) -> tuple[str, ...]:
    """The hidden tests of a task, each once, in the order of every vector."""
    return tuple(dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS)))


def digits(tests: tuple[str, ...], verdict: Verdict) -> str:
    """One digit per test of ``tests``: 1 passed. Raises :class:`SandboxError` for an infrastructure failure."""
    if verdict.status is Status.INFRA:
        raise SandboxError(f"an attempt could not be graded: {verdict.detail}")
    honest = verdict.status is not Status.TAMPERED and not verdict.flags
    return "".join(str(int(honest and verdict.results.get(test, False))) for test in tests)
