"""Scaffold calling (rewards.md, section 1.3): the share of turns whose tool ran with valid arguments and no
tool-level error.

A command that exits with 1 is a valid call: what it found is not the critic's business. Weight 0.1 and priority 1 are
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.critics.base import Marks, Share
from rewards.facts import Group


class ToolCall(Share):
    kind: Literal["tool_call"] = "tool_call"

    def marks(self, group: Group) -> Sequence[Marks]:
        """``weight`` for each turn whose call was valid."""
        return [tuple([self.weight if f.tool_ok else 0.0 for f in member.facts]) for member in group.members]
