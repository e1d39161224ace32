"""The end of an episode: the patch is graded in a fresh sandbox, once per tree in a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sandbox.grading.grade import TIMEOUT_S, GradeCache
from sandbox.protocol import Backend, Limits
from sandbox.task import Prepared, Verdict


class Grader(Protocol):
    """Grades a patch. Infrastructure failures are ``Status.INFRA`` (or ``SandboxError``), never a grade."""

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict: ...


@dataclass(slots=True)
class SandboxGrader:
    """Hidden tests in a fresh sandbox of ``backend``, with equal trees graded once."""

    backend: Backend
    timeout_s: float = TIMEOUT_S
    """For the tests of one grading, in seconds."""
    limits: Limits = field(default_factory=Limits)
    cache: GradeCache = field(default_factory=GradeCache)

    async def __call__(self, prepared: Prepared, patch: str) -> Verdict:
        return await self.cache.grade(prepared, patch, self.backend, timeout_s=self.timeout_s, limits=self.limits)
