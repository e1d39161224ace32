"""Where a trajectory's contexts stopped being a prefix of the next, counted by cause.

Contexts only ever grow by appended tokens (:class:`agent.chat.Chat`), so the only way to rewrite history is a *fork*,
and every fork has a cause: the window was summed up, or old turns were dropped from it. A context that drifts without
a fork is impossible to store and is what :mod:`trainers.engines.recorded` refuses to play back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from agent.context import SUMMARISE
from agent.trajectory import Trajectory

Cause = Literal["summed_up", "dropped"]


def forks(trajectories: Iterable[Trajectory]) -> dict[Cause, int]:
    """How often history was rewritten, by cause."""
    found: dict[Cause, int] = {"summed_up": 0, "dropped": 0}
    for trajectory in trajectories:
        for before, turn in zip(trajectory.turns, trajectory.turns[1:], strict=False):
            if turn.fork:
                found["summed_up" if before.action == SUMMARISE else "dropped"] += 1
    return found
