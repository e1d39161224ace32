"""Shadow grading: the hidden tests of a tree that an episode passed through, off to the side, never shown to the agent.

A tree is a value here, not a sandbox: what an agent does meanwhile cannot reach its grading, and a grading cannot be
seen from where the agent works. Grades are kept by (task, tree hash), in the cache that final grades share, so that a
tree which several attempts reach, or which is submitted in the end, is graded once.

A vector is honest or zero: an attempt that tampers or is flagged passes no test, because what a grade earns no credit
for, an intermediate one must not earn either.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.grading.diff import diff
from sandbox.grading.grade import TIMEOUT_S, GradeCache
from sandbox.grading.tree import Tree, manifest, read_frozen
from sandbox.protocol import Backend, Limits, SandboxError, tree_hash
from sandbox.task import Prepared, Status, Task, Verdict


@dataclass(frozen=True, slots=True)
class Shadow:
    """The grade of one tree."""

    tree: str
    """Its tree hash, as :meth:`~sandbox.protocol.Sandbox.manifest` names it."""
    tests: tuple[str, ...]
    """Ids of the hidden tests: FAIL_TO_PASS, then PASS_TO_PASS."""
    passed: str
    """One digit per test: 1 passed."""
    verdict: Verdict


class ShadowGrader:
    """Grades trees on a backend; safe to ask from many episodes at once."""

    def __init__(
        self,
        backend: Backend,
        cache: GradeCache | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        limits: Limits | None = None,
    ) -> None:
        self._backend, self._cache = backend, cache or GradeCache()
        self._timeout_s, self._limits = timeout_s, limits

    async def grade(self, prepared: Prepared, tree: Tree) -> Shadow:
        """The vector of ``tree``. Raises :class:`SandboxError` for a grading that infrastructure ended: no grade is
        no zero.
        """
        patch = diff(read_frozen(prepared.base), tree)
        verdict = await self._cache.grade(
            prepared, patch, self._backend, timeout_s=self._timeout_s, limits=self._limits
        )
        tests = listed(prepared.task)
        return Shadow(tree_hash(manifest(tree)), tests, digits(tests, verdict), verdict)


def listed(task: Task) -> tuple[str, ...]:
    """The hidden tests of a task, each once, in the order of every vector."""
    return tuple(dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS)))


def digits(tests: tuple[str, ...], verdict: Verdict) -> str:
    """One digit per test of ``tests``: 1 passed. Raises :class:`SandboxError` for an infrastructure failure."""
    if verdict.status is Status.INFRA:
        raise SandboxError(f"an attempt could not be graded: {verdict.detail}")
    honest = verdict.status is not Status.TAMPERED and not verdict.flags
    return "".join(str(int(honest and verdict.results.get(test, False))) for test in tests)
