"""From rows to micro-batches: checked, grouped by rollout, packed by group, bounded in tokens.

* Credit on a position that was not sampled raises (invariant 2): it would be lost silently.
* The rows of one rollout stay in one micro-batch (invariant 8), so that sequence-level terms see the whole of it.
* Rows of one group are neighbours, so that their prompt is packed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainers.model.packing import common
from trainers.protocol import Row


@dataclass(slots=True)
class Micro:
    """What goes through the model at once: blocks of rows, each block with a shared prefix."""

    blocks: list[list[Row]] = field(default_factory=list[list[Row]])
    tokens: int = 0


def check(rows: Sequence[Row]) -> None:
    """Raise ``ValueError`` for a row that breaks an invariant."""
    for row in rows:
        if not len(row.ids) == len(row.mask) == len(row.logprobs) == len(row.advantages):
            raise ValueError(f"a row of rollout {row.rollout} has columns of different lengths")
        if row.mask and row.mask[0]:
            raise ValueError(f"a row of rollout {row.rollout} begins with a sampled token: it has no context")
        if any(a and not sampled for a, sampled in zip(row.advantages, row.mask, strict=True)):
            raise ValueError(f"rollout {row.rollout} has credit on a token that was not sampled")


def rollouts(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by rollout, in order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.rollout, []).append(row)
    return found


def dead(rows: Sequence[Row]) -> bool:
    """No sampled token of these rows has credit, and none a lesson to learn."""
    return not any(any(row.advantages) or row.lesson for row in rows)


def micros(chosen: Sequence[Sequence[Row]], budget: int, by_group: bool = True) -> list[Micro]:
    """Micro-batches of about ``budget`` tokens from rollouts; one that is larger alone gets one of its own.

    ``by_group`` false packs all of them behind the prefix that they share, whatever their groups.
    """
    groups: dict[str, list[Sequence[Row]]] = {}
    for rows in chosen:
        groups.setdefault(rows[0].group if by_group else "", []).append(rows)
    out: list[Micro] = [Micro()]
    for members in groups.values():
        shared = common([row.ids for rows in members for row in rows])
        fresh = True
        for rows in members:
            cost = sum(len(row.ids) - shared for row in rows)
            if out[-1].tokens and out[-1].tokens + cost + shared * fresh > budget:
                out.append(Micro())
                fresh = True
            if fresh:
                out[-1].blocks.append([])
                out[-1].tokens += shared
                fresh = False
            out[-1].blocks[-1] += rows
            out[-1].tokens += cost
    return [micro for micro in out if micro.tokens]
