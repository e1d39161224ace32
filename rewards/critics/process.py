"""lanser's process reward as a critic: pr-v1 (arXiv 2510.22907, equation 5.1) and pr-v2 (a difference of potentials).
Formulas, weights and their properties: :mod:`lsp.process_reward`.

* ``pr_v1`` pays every harmless mutation and is unbounded in the number of turns: in the return it needs a clamp. It
  is kept for fidelity.
* ``pr_v2`` telescopes. ``terminal = "keep"`` lets the return gain Phi_T - Phi_0, which changes the objective towards
  leaving the code clean and belongs inside a gate; ``terminal = "zero"`` takes Phi_T back on the last turn: a control
  variate, which only return-to-go can use.

A turn that changed the tree and has no diagnostics is *missing*: refused by name, or with ``missing = "worst"``
charged as twice the starting count, so that killing the server never pays. A turn that left the tree alone carries
the count forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lsp.process_reward import Observation, Weights, rewards
from rewards.critics.base import Marks, Step
from rewards.errors import RewardError
from rewards.facts import Group, Member
from rewards.option import Weight


class _Process(Step):
    weight: Weight = 1.0
    """Multiplies every reward."""
    a: Weight = 0.5
    """Per error diagnostic removed (pr-v2: per share of the starting count)."""
    b: Weight = 0.4
    """For passing every safety check."""
    c: Weight = 0.1
    """For an unambiguous selector."""
    missing: Literal["refuse", "worst"] = "refuse"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"diagnostics"})

    def observed(self, group: Group) -> list[tuple[int, list[Observation]]]:
        """Per member: the starting count and what each turn told. Raises :class:`RewardError` for a missing count."""
        known = [m.source.base_diagnostics for m in group.members if m.source.base_diagnostics is not None]
        shared = min(known, default=None)
        made: list[tuple[int, list[Observation]]] = []
        for member in group.members:
            own = member.source.base_diagnostics
            start = shared if own is None else own
            made.append((start or 0, self._turns(member, start)))
        return made

    def weights(self) -> Weights:
        return Weights(self.a, self.b, self.c)

    def _turns(self, member: Member, start: int | None) -> list[Observation]:
        told: list[Observation] = []
        for index, facts in enumerate(member.facts):
            count = facts.diagnostics
            if start is None and (facts.changed or count is not None):
                raise RewardError(f"a process reward needs the diagnostics of the base tree of {member.name}")
            if facts.changed and count is None:
                if self.missing == "refuse":
                    raise RewardError(f"a process reward needs the diagnostics of {member.name}, turn {index}")
                count = 2 * max(1, start or 0)
            told.append(Observation(count, facts.safe, facts.confidence))
        return told


class ProcessV1(_Process):
    kind: Literal["pr_v1"] = "pr_v1"

    def bounds(self) -> tuple[float, float]:
        return float("-inf"), float("inf")

    def stretch(self) -> float:
        return float("-inf")

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn."""
        return [
            tuple(self.weight * r for r in rewards(start, turns, "pr-v1", self.weights()))
            for start, turns in self.observed(group)
        ]


class ProcessV2(_Process):
    kind: Literal["pr_v2"] = "pr_v2"
    terminal: Literal["keep", "zero"] = "keep"

    def bounds(self) -> tuple[float, float]:
        """Of Phi_T - Phi_0, where D stays within twice its start; of -Phi_0 for ``zero``."""
        held = self.b + self.c
        low, high = (-2 * self.a - held, self.a) if self.terminal == "keep" else (-held, self.a - held)
        return self.weight * low, self.weight * high

    def stretch(self) -> float:
        """From the highest potential to the lowest."""
        held = self.b + self.c
        return -self.weight * (held if self.terminal == "zero" else 2 * self.a + held)

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn; with ``zero`` the last turn also pays -Phi_T."""
        return [self._marks(start, turns) for start, turns in self.observed(group)]

    def _marks(self, start: int, turns: Sequence[Observation]) -> Marks:
        paid = rewards(start, turns, "pr-v2", self.weights(), terminal=self.terminal)
        if self.terminal == "zero":
            *paid, back = paid
            paid = [*paid[:-1], paid[-1] + back] if paid else []
        return tuple(self.weight * r for r in paid)
