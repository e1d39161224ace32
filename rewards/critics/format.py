"""Action format (rewards.md, section 1.3): the share of turns whose output parses into exactly one action.

Weight 0.1, priority 2 and threshold 0.05 (half of the turns) are ours: the G-RA paper's list and values could not be
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rewards.critics.base import Marks, Share
from rewards.facts import Group
from rewards.option import Threshold


class ActionFormat(Share):
    kind: Literal["format"] = "format"
    priority: int = 2
    threshold: Threshold = 0.05

    def marks(self, group: Group) -> Sequence[Marks]:
        """``weight`` for each turn that parsed."""
        return [tuple([self.weight if f.format_ok else 0.0 for f in member.facts]) for member in group.members]
