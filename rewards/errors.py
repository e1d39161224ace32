"""What rewards refuse."""

from __future__ import annotations


class RewardError(Exception):
    """A group cannot be scored, or a run does not record what its recipe needs. One sentence with the names."""
