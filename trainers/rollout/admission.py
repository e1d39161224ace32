"""When a group may start and when a step may be made, so that nothing that is learned from is too old.

With B groups a step and a staleness bound S, a group that was started at step s must be learned from at step s + S at
the latest. Two rules see to it, whatever the lengths of the episodes:

* **Capacity.** At most (S + 1) B groups are outstanding: in flight, finished and not yet used, or being learned from.
  It is the rule of AReaL (arXiv:2505.24298, section 5.1), and it bounds memory.
* **Earliest deadline first, if feasible.** A step takes the B finished groups that started first. It waits as long as
  the rest could not be served in time: for some k < S more than k B of the groups that would be left are due by the
  k-th step from here.

Then no step ever finds an overdue group. When step v is made, at most k B of the groups left are due by v + k (k < S).
Until its update is through its own B count, so at most S B others are outstanding, all due by v + S; whatever starts
afterwards is due at v + 1 + S. So at step v + 1 at most (k + 1) B groups are due by v + 1 + k (k < S): a choice of
those that are due first leaves at most k B, and the rule can be met as soon as they have finished. S = 0 is
synchronous training, S = 1 is one step off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Admission:
    """The two rules, as functions of the steps at which groups were started."""

    groups: int
    """Groups of one step, B."""
    staleness: int
    """S."""

    def room(self, outstanding: int) -> int:
        """How many more groups may start."""
        return max(0, (self.staleness + 1) * self.groups - outstanding)

    def choose(self, step: int, ready: Sequence[int], flying: Sequence[int]) -> list[int] | None:
        """Indices into ``ready`` of the groups to learn from now; ``None``: wait for one that is in flight.

        ``ready`` and ``flying`` hold the steps at which those groups were started.
        """
        if len(ready) < self.groups:
            return None
        order = sorted(range(len(ready)), key=lambda index: (ready[index], index))
        chosen, rest = order[: self.groups], order[self.groups :]
        due = [start + self.staleness - step for start in (*flying, *(ready[index] for index in rest))]
        late = any(sum(when <= k for when in due) > k * self.groups for k in range(self.staleness))
        return None if late and flying else chosen
