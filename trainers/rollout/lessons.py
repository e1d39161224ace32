"""What the trainer can tell an episode in hindsight: feedback that the policy learns from by its own lights.

After SDPO (self-distillation policy optimisation, arXiv:2601.20802): the policy is asked again about the tokens that it
sampled, now knowing the shortest change of another episode of the group that resolved the task, and which hidden tests
its own change failed. Where it then thinks more of a token than it did, the token was good
(:mod:`trainers.learning.teacher`). So a group in which everybody failed, or everybody failed alike, teaches something.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.trajectory import Outcome, Trajectory

SHOWN = 8
"""Failed tests that are named."""
OWN = {
    Outcome.NO_SUBMIT: "This attempt submitted nothing.",
    Outcome.EMPTY_PATCH: "This attempt submitted no change.",
}


def lessons(group: Sequence[Trajectory]) -> list[str]:
    """One text an episode; empty where there is nothing to tell: infrastructure failed, or nobody else resolved a task
    that this one did."""
    return ["" if one.outcome is Outcome.INFRA else _lesson(one, group) for one in group]


def _lesson(one: Trajectory, group: Sequence[Trajectory]) -> str:
    solved = [t.patch for t in group if t is not one and t.outcome is Outcome.TESTS_PASS]
    parts = [f"This change resolves the task:\n{min(solved, key=len).strip()}"] if solved else []
    if one.outcome is not Outcome.TESTS_PASS:
        parts.append(OWN.get(one.outcome) or _failed(one))
    return "\n\n".join(parts)


def _failed(one: Trajectory) -> str:
    results = one.verdict.results if one.verdict else {}
    failed = [name for name, passed in results.items() if not passed]
    if not failed:
        return "This attempt does not resolve the task."
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return f"This attempt fails {len(failed)} of {len(results)} tests: {', '.join(failed[:SHOWN])}{more}."
