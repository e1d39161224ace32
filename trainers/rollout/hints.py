"""Hints for groups in which nobody solved the task, after Scaf-GRPO (arXiv:2510.19807).

Such a group has no contrast and teaches nothing. Its task is played again with a hint in the statement, the weakest
first: the files that the fix touches, the places in them, the fix itself. The first episode that then solves the task
takes the place of the group's last one. Credit is that of the new group: with n samples and outcomes 0 ... 0 1 the
mean baseline gives 1 - 1/n to the hinted episode and -1/n to the others. The hinted episode is learned in the context
that it was played in, hint included: its log-probabilities are those of the policy that sampled it, so nothing is
off-policy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.trajectory import Outcome, Trajectory
from sandbox.task import Task

LEVELS = 3
"""From the files to the fix itself."""


def hint(patch: str, level: int) -> str:
    """What a hint of a level (from 1) says about a fix, given as a unified diff."""
    files = list(dict.fromkeys(re.findall(r"^\+\+\+ b/(.+)$", patch, re.MULTILINE)))
    if level >= LEVELS:
        return f"Hint: this change fixes it:\n{patch.strip()}"
    text = f"Hint: the fix is in {', '.join(files) or 'one file'}"
    places = re.findall(r"^@@ -(\d+)(?:,(\d+))? \+\S+ @@", patch, re.MULTILINE)
    if level == 1 or not places:
        return text + "."
    spans = ", ".join(f"{start} to {int(start) + int(count or 1) - 1}" for start, count in places)
    return f"{text}, near lines {spans}."


def hinted(task: Task, level: int) -> Task:
    """The same task with a hint at the end of its statement."""
    return task.model_copy(
        update={"problem_statement": f"{task.problem_statement.rstrip()}\n\n{hint(task.patch, level)}"}
    )


def hopeless(group: Sequence[Trajectory]) -> bool:
    """Everybody was graded or ended by their own doing, and nobody solved the task."""
    return bool(group) and not any(t.outcome in (Outcome.TESTS_PASS, Outcome.INFRA) for t in group)


def substituted(group: Sequence[Trajectory], solved: Trajectory) -> list[Trajectory]:
    """The group with its last episode replaced."""
    return [*group[:-1], solved]
