"""A comparison takes its bound in where it should leave it out, or the other way round: ``<`` and ``<=``, ``>`` and
``>=``.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.faults.comparisons import replaced
from benchmarks.faults.module import Edit, Function

KIND = "bound"
NAME = "a comparison is off at its bound"
PARTNER = {b"<": b"<=", b"<=": b"<", b">": b">=", b">=": b">"}


def edits(function: Function) -> Iterator[Edit]:
    """One edit an ordering comparison."""
    yield from replaced(function, PARTNER)
