"""The sums over tests: plain Python for small groups, numpy for large ones, the same bits from both.

``rewards`` runs on the light core, which has no numpy; where numpy is installed (it comes with torch), groups above
:data:`LARGE` table cells use it. Both paths take integer counts first, which are exact, and then add floats in one
fixed order (ascending pass count), so that the choice of path cannot be seen in a result; a property test compares
them bit for bit.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

LARGE = 20_000
"""Cells (rows times tests) above which importing numpy pays."""
_DIGITS = bytes([48, 49]) + bytes(254)


def passes(rows: Sequence[bytes]) -> list[int]:
    """Per test, how many rows passed it. ``rows`` hold one byte (0 or 1) per test, shape (M, U)."""
    if numpy := _numpy(rows):
        table = _table(numpy, rows)
        # Within 255 rows a byte cannot overflow, and bytes are added without a cast.
        parts = [table[i : i + 255].sum(axis=0, dtype=numpy.uint8) for i in range(0, len(rows), 255)]
        return numpy.sum(parts, axis=0, dtype=numpy.int64).tolist()
    return [sum(column) for column in zip(*rows, strict=True)]


def weighted(rows: Sequence[bytes], counts: Sequence[int], weights: Mapping[int, float]) -> list[float]:
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


@cache
def _import() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def _numpy_for(cells: int) -> Any:
    return _import() if cells >= LARGE else None


def _numpy(rows: Sequence[bytes]) -> Any:
    return _numpy_for(len(rows) * len(rows[0])) if rows else None


def _table(numpy: Any, rows: Sequence[bytes]) -> Any:
    return numpy.frombuffer(b"".join(rows), dtype=numpy.uint8).reshape(len(rows), -1)


def _weighted_numpy(
    numpy: Any, rows: Sequence[bytes], counts: Sequence[int], weights: Mapping[int, float]
) -> list[float]:
    order = numpy.argsort(numpy.asarray(counts), kind="stable")
    levels, starts = numpy.unique(numpy.asarray(counts)[order], return_index=True)
    small = numpy.uint16 if len(counts) < 1 << 16 else numpy.int64
    # One row per test: whole rows are added, which is many times faster than adding within rows.
    columns = _table(numpy, rows).T[order].astype(small)
    per_level = numpy.add.reduceat(columns, starts, axis=0, dtype=small)
    total = numpy.zeros(len(rows))
    for level, passed in zip(levels.tolist(), per_level, strict=True):
        total += weights[level] * passed
    return total.tolist()


def _weighted_plain(rows: Sequence[bytes], counts: Sequence[int], weights: Mapping[int, float]) -> list[float]:
    masks = [(weights[level], _bits(bytes(count == level for count in counts))) for level in sorted(set(counts))]
    return [_weigh(_bits(row), masks) for row in rows]


def _weigh(row: int, masks: Sequence[tuple[float, int]]) -> float:
    total = 0.0
    for weight, mask in masks:
        total += weight * (row & mask).bit_count()
    return total


def _bits(row: bytes) -> int:
    return int(row.translate(_DIGITS), 2)


def _density_numpy(
    numpy: Any, levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]
) -> list[float]:
    at = numpy.asarray(levels)
    kernel = numpy.asarray(table)[abs(at[:, None] - at[None, :])]
    return numpy.cumsum(kernel * numpy.array([histogram[level] for level in levels]), axis=1)[:, -1].tolist()


def _density_plain(levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]) -> list[float]:
    made: list[float] = []
    for level in levels:
        total = 0.0
        for other in levels:
            total += table[abs(level - other)] * histogram[other]
        made.append(total)
    return made
