"""Shadow grades: the hidden tests run on every attempt of an episode, off to the side, never shown to the agent.

The patch of an attempt is taken while its tree is there, and graded when the episode asks the policy for nothing more,
so that no turn waits for it. A tree is graded once in a run, by the cache of the grader that grades patches: the last
attempt costs nothing beyond the episode's own grade. A grading that fails by infrastructure is no grade: the
trajectory is masked, never taken for one whose tests failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import Fault
from agent.patch import collect
from agent.trajectory import Trajectory, Turn
from sandbox.protocol import Sandbox
from sandbox.task import Failure, Prepared, Status, Task, Verdict


@dataclass(slots=True)
class Attempts:
    """Patches of the trees that one episode reached."""

    patches: dict[str, str] = field(default_factory=dict[str, str])
    """By tree hash."""

    async def note(
        self, prepared: Prepared, tree: str, before: Mapping[str, str], after: Mapping[str, str], sandbox: Sandbox
    ) -> None:
        """Keep the patch of the tree that ``sandbox`` holds now; ``before`` and ``after`` are the manifests of the
        base tree and of this one. Raises ``SandboxError`` or ``OSError``.
        """
        if tree not in self.patches:
            self.patches[tree] = await collect(sandbox, prepared.base, before, after)


async def shadowed(
    task: Task, trajectory: Trajectory, attempts: Attempts, verdict: Callable[[str], Awaitable[Verdict]]
) -> Trajectory:
    """The trajectory with the tests' names and the test vector of each attempt that was noted.

    Raises :class:`Fault` where one cannot be graded.
    """
    tests = tuple(dict.fromkeys((*task.FAIL_TO_PASS, *task.PASS_TO_PASS)))
    turns: list[Turn] = []
    for turn in trajectory.turns:
        patch = attempts.patches.get(turn.facts.tree or "") if turn.facts.attempt else None
        if patch is not None:
            digits = vector(tests, await verdict(patch))
            turn = turn.model_copy(update={"facts": turn.facts.model_copy(update={"tests": digits})})
        turns.append(turn)
    return trajectory.model_copy(update={"turns": tuple(turns), "tests": tests})


def vector(tests: Sequence[str], verdict: Verdict) -> str:
    """One digit per test: 1 passed.

    An attempt that tampers, or is flagged, passes none: what a grade earns no credit for, an attempt does not either
    (rewards.md, section 5.7). Raises :class:`Fault` for a grading that infrastructure ended.
    """
    if verdict.status is Status.INFRA:
        raise Fault(Failure.GRADER, f"an attempt could not be graded: {verdict.detail}")
    honest = verdict.status is not Status.TAMPERED and not verdict.flags
    return "".join(str(int(honest and verdict.results.get(test, False))) for test in tests)
