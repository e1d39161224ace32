"""The format protocol."""

from __future__ import annotations

from typing import Protocol

from agent.trajectory import Action


class Format(Protocol):
    """One way of writing actions."""

    def parse(self, text: str, cut: bool) -> Action:
        """The one action of an answer. ``cut``: the answer ended by length. Raises ``FormatError``."""
        ...

    def render(self, action: Action) -> str:
        """The canonical text of an action: what a scripted policy answers and the warm start learns."""
        ...

    def help(self) -> str:
        """Lines for the prompt: how each tool is written."""
        ...
