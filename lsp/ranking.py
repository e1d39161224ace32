"""What a selector may mean, and how much speaks for it (section 4 of docs/lanser.md).

Candidates are scored ``0.5 s_ast + 0.2 s_module + 0.2 J_token + 0.1 s_prox``, every feature in [0, 1]; a feature that
the selector gives no evidence for is left out and the other weights are rescaled to sum 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lsp.positions import Range, Text

WEIGHTS: Mapping[str, float] = {"s_ast": 0.5, "s_module": 0.2, "j_token": 0.2, "s_prox": 0.1}
TAU = 0.75
MARGIN = 0.05
SHOWN = 5
"""Candidates that an ambiguity shows."""


class Tree(Protocol):
    """What relocation reads: the source files of a workspace."""

    def paths(self) -> Sequence[str]:
        """Relative paths of all source files, sorted."""
        ...

    def text(self, path: str) -> Text | None:
        """The text of a file now; ``None`` when it is not there or cannot be read."""
        ...

    def old(self, path: str, version: str) -> Text | None:
        """The text of a file as of ``version``; ``None`` when that snapshot is gone."""
        ...

    def resolve(self, uri: str) -> str:
        """A selector's path or ``file:`` URI relative to the workspace. ``JAIL`` outside."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A place that a selector may mean."""

    uri: str
    range: Range
    features: Mapping[str, float] = field(default_factory=dict[str, float])
    name: str = ""
    """Qualified name, of a symbol."""
    exact: bool = False

    @property
    def score(self) -> float:
        """Weighted mean of the features that are known; 1.0 for an exact hit, 0.0 with no evidence at all."""
        if self.exact:
            return 1.0
        total = sum(WEIGHTS[name] for name in self.features)
        return sum(WEIGHTS[name] * value for name, value in self.features.items()) / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        features = {name: round(value, 6) for name, value in sorted(self.features.items())}
        return {
            "uri": self.uri,
            "range": list(self.range),
            "score": round(self.score, 6),
            "features": features,
            "name": self.name or None,
        }
