"""Scaffold selection (rewards.md, section 1.3): the tools wanted for the phase were used, which here means an edit
before submit.

Pays ``weight`` once, on the turn that submits, when every tool of ``before_submit`` ran without a tool-level error at
an earlier turn. Weight 0.05 and priority 1 are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.critics.base import Marks, Step
from rewards.facts import Group, Member
from rewards.option import Weight


class ToolChoice(Step):
    kind: Literal["tool_choice"] = "tool_choice"
    weight: Weight = 0.05
    before_submit: tuple[str, ...] = ("edit",)
    """Names of tools."""

    def bounds(self) -> tuple[float, float]:
        return 0.0, self.weight

    def marks(self, group: Group) -> Sequence[Marks]:
        """Per member and turn."""
        return [self._marks(member) for member in group.members]

    def _marks(self, member: Member) -> Marks:
        missing, paid = set(self.before_submit), [0.0] * len(member.source.turns)
        for index, turn in enumerate(member.source.turns):
            if turn.action is None:
                continue
            if turn.action.tool == "submit":
                paid[index] = 0.0 if missing else self.weight
                break
            if turn.facts.tool_ok:
                missing.discard(turn.action.tool)
        return tuple(paid)
