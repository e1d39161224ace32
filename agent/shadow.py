"""Shadow grades: the hidden tests run on every attempt of an episode, off to the side, never shown to the agent.

The patch of an attempt is taken while its tree is there, and graded when the episode asks the policy for nothing more,
so that no turn waits for it. A tree is graded once in a run, by the cache of the grader that grades patches: the last
attempt costs nothing beyond the episode's own grade. A grading that fails by infrastructure is no grade: the
trajectory is masked, never taken for one whose tests failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from agent.errors import boundary
from agent.patch import collect
from agent.trajectory import Trajectory, Turn
from sandbox.grading.shadow import digits, listed
from sandbox.protocol import Sandbox
from sandbox.task import Failure, Prepared, Task, Verdict


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

    Raises :class:`~agent.errors.Fault` where one cannot be graded.
    """
    tests = listed(task)
    turns: list[Turn] = []
    for turn in trajectory.turns:
        patch = attempts.patches.get(turn.facts.tree or "") if turn.facts.attempt else None
        if patch is not None:
            with boundary(Failure.GRADER):
                passed = digits(tests, await verdict(patch))
            turn = turn.model_copy(update={"facts": turn.facts.model_copy(update={"tests": passed})})
        turns.append(turn)
    return trajectory.model_copy(update={"turns": tuple(turns), "tests": tests})
