"""From groups and their credit to training rows.

A turn's advantage is broadcast to the tokens sampled in it, and to nothing else (invariant 2). A group
without any credit (a *dead* group) yields no rows unless it has lessons: its gradient is zero, so it would only cost
time. Rows of infrastructure failures are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.trajectory import Segment, Trajectory
from rewards.credit import Credit
from trainers.protocol import Row


def dead(credit: Credit) -> bool:
    """Nothing to learn: every valid turn's advantage is exactly 0."""
    return not any(any(turns) for turns, valid in zip(credit.turns, credit.valid, strict=True) if valid)


def rows(group: Sequence[Trajectory], credit: Credit, lessons: Sequence[str] | None = None) -> list[Row]:
    """The rows of one group; ``[]`` for a dead one that has no lessons either."""
    told = lessons or [""] * len(group)
    if dead(credit) and not any(told):
        return []
    return [
        row(segment, turns, trajectory, lesson)
        for trajectory, turns, valid, lesson in zip(group, credit.turns, credit.valid, told, strict=True)
        if valid
        for segment in trajectory.segments()
        if any(segment.mask)
    ]


def row(segment: Segment, turns: Sequence[float], trajectory: Trajectory, lesson: str = "") -> Row:
    """One segment with its turns' advantages on the sampled tokens."""
    key = trajectory.key
    return Row(
        ids=segment.ids,
        mask=segment.mask,
        logprobs=segment.logprobs,
        advantages=tuple(
            turns[turn] if sampled else 0.0 for turn, sampled in zip(segment.turn, segment.mask, strict=True)
        ),
        rollout=str(key),
        group=f"{key.step}-{key.prompt}",
        lesson=lesson,
    )
