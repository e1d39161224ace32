"""The sums over tests: plain Python for small groups, numpy for large ones, the same bits from both.

``rewards`` runs on the light core, which has no numpy; where numpy is installed (it comes with torch), it is used once
there is enough to add. Both paths take integer counts first, which are exact, and then add floats in one
fixed order (ascending pass count), so that the choice of path cannot be seen in a result; a property test compares
them bit for bit.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

LARGE = 20_000
"""Cells, of all calls so far, after which importing numpy pays; it is used at once where something else imported it."""
SMALL = 1_000
"""Cells below which plain Python is faster."""


def passes(rows: Sequence[str]) -> list[int]:
    """Per test, how many rows passed it. ``rows`` hold one digit (0 or 1) per test, shape (M, U)."""
    if numpy := _numpy(rows):
        table = _table(numpy, rows)
        # Within 255 rows a byte cannot overflow, and bytes are added without a cast.
        parts = [table[i : i + 255].sum(axis=0, dtype=numpy.uint8) for i in range(0, len(rows), 255)]
        return numpy.sum(parts, axis=0, dtype=numpy.int64).tolist()
    return [column.count("1") for column in zip(*rows, strict=True)]


def weighted(rows: Sequence[str], counts: Sequence[int], weights: Mapping[int, float]) -> list[float]:
    """Per row, the sum of ``weights[counts[j]]`` over the tests j that it passed.

    ``counts`` is what :func:`passes` returned: tests of one pass count share a weight.
    """
    numpy = _numpy(rows)
    return _weighted_numpy(numpy, rows, counts, weights) if numpy else _weighted_plain(rows, counts, weights)


def density(histogram: Mapping[int, int], attempts: int, sigma: float) -> dict[int, float]:
    """Per pass count k, the Gaussian kernel density ``sum_k' h(k') exp(-((k - k') / attempts)^2 / (2 sigma^2))``.

    Pass rates are multiples of 1 / attempts, so the kernel is a table over differences: O(levels^2) additions,
    O(attempts) exponentials.
    """
    levels = sorted(histogram)
    table = [math.exp(-((gap / attempts) ** 2) / (2 * sigma * sigma)) for gap in range(levels[-1] - levels[0] + 1)]
    numpy = _numpy_for(len(levels) ** 2)
    made = _density_numpy(numpy, levels, histogram, table) if numpy else _density_plain(levels, histogram, table)
    return dict(zip(levels, made, strict=True))


@dataclass(slots=True)
class _Chooser:
    """Which path is taken: no result depends on it."""

    cells: int = 0

    def numpy(self, cells: int) -> Any:
        self.cells += cells
        if cells < SMALL or (self.cells < LARGE and "numpy" not in sys.modules):
            return None
        return _import()


_chooser = _Chooser()


@cache
def _import() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def _numpy_for(cells: int) -> Any:
    return _chooser.numpy(cells)


def _numpy(rows: Sequence[str]) -> Any:
    return _numpy_for(len(rows) * len(rows[0])) if rows else None


def _table(numpy: Any, rows: Sequence[str]) -> Any:
    digits = numpy.frombuffer("".join(rows).encode(), dtype=numpy.uint8)
    return (digits & 1).reshape(len(rows), -1)


def _weighted_numpy(
    numpy: Any, rows: Sequence[str], counts: Sequence[int], weights: Mapping[int, float]
) -> list[float]:
    order = numpy.argsort(numpy.asarray(counts), kind="stable")
    levels, starts = numpy.unique(numpy.asarray(counts)[order], return_index=True)
    # One row per test: whole rows are added, in their order, which is many times faster than adding within rows.
    columns = _table(numpy, rows).T.take(order, axis=0)
    passed = columns.take(starts, axis=0).astype(float)
    sizes = numpy.diff(starts, append=len(order))
    for level in numpy.flatnonzero(sizes > 1).tolist():
        first = starts[level]
        passed[level] = columns[first : first + sizes[level]].sum(axis=0, dtype=numpy.int64)
    terms = passed * numpy.array([weights[level] for level in levels.tolist()])[:, None]
    return numpy.add.reduce(terms, axis=0).tolist()


def _weighted_plain(rows: Sequence[str], counts: Sequence[int], weights: Mapping[int, float]) -> list[float]:
    masks = [
        (weights[level], int("".join("01"[count == level] for count in counts), 2)) for level in sorted(set(counts))
    ]
    return [_weigh(int(row, 2), masks) for row in rows]


def _weigh(row: int, masks: Sequence[tuple[float, int]]) -> float:
    total = 0.0
    for weight, mask in masks:
        total += weight * (row & mask).bit_count()
    return total


def _density_numpy(
    numpy: Any, levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]
) -> list[float]:
    at = numpy.asarray(levels)
    kernel = numpy.asarray(table).take(abs(at[:, None] - at[None, :]))
    kernel *= numpy.array([histogram[level] for level in levels], dtype=float)[:, None]
    return numpy.add.reduce(kernel, axis=0).tolist()


def _density_plain(levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]) -> list[float]:
    made: list[float] = []
    for level in levels:
        total = 0.0
        for other in levels:
            total += table[abs(level - other)] * histogram[other]
        made.append(total)
    return made
