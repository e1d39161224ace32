"""The sums over tests: plain Python for small groups, numpy for large ones, the same bits from both.

``rewards`` runs on the light core, which has no numpy; where numpy is installed (it comes with torch), it is used once
there is enough to add. Sums are exact: each term is cut into two integers so short that no partial sum of as many terms
leaves the 53 bits in which a float counts exactly, and the two sums meet in one rounding at the end. So neither the
order of the terms nor the library that adds them can be seen in a result; a property test compares the paths bit for
bit.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

LARGE = 20_000
"""Cells, of all calls so far, after which importing numpy pays; it is used at once where something else imported it."""
SMALL = 1_000
"""Cells below which plain Python is faster."""
BLOCK = 100_000
"""Cells that are added at a time."""


def passes(rows: Sequence[str]) -> list[int]:
    """Per test, how many rows passed it. ``rows`` hold one digit (0 or 1) per test, shape (M, U)."""
    if numpy := _numpy(rows):
        # Within 255 rows a byte cannot overflow, and bytes are added without a cast.
        parts = [table.sum(axis=0, dtype=numpy.uint8) for table in _tables(numpy, rows)]
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
    scale = -1.0 / (2 * (sigma * attempts) ** 2)
    table = list(map(math.exp, [scale * (gap * gap) for gap in range(levels[-1] - levels[0] + 1)]))
    numpy = _numpy_for(len(levels) * len(table))
    made = _density_numpy(numpy, levels, histogram, table) if numpy else _density_plain(levels, histogram, table)
    return dict(zip(levels, made, strict=True))


class _Terms:
    """Terms of a sum, cut into a high and a low integer: ``value = (high + low 2^-bits) 2^(exponent - bits)``, to
    2 * bits binary places below the greatest term. Scaling by powers of two and these differences are exact in floats.
    """

    def __init__(self, values: Sequence[float], count: int) -> None:
        """``values``: none negative; ``count``: the most terms that one sum has, repetitions included."""
        self.bits = 53 - count.bit_length()
        # No smaller, so that the scales below stay within a float.
        self.exponent = max(-800, math.frexp(max(values, default=0.0))[1])
        self.values = values

    def halves(self) -> list[tuple[float, float]]:
        """High and low part of each term."""
        up, down = math.ldexp(1.0, self.bits - self.exponent), math.ldexp(1.0, self.bits)
        highs = [float(math.floor(value * up)) for value in self.values]
        return [(h, float(math.floor((v * up - h) * down))) for v, h in zip(self.values, highs, strict=True)]

    def columns(self, numpy: Any) -> tuple[Any, Any]:
        """The same as two arrays."""
        scaled = numpy.array(self.values) * math.ldexp(1.0, self.bits - self.exponent)
        high = numpy.floor(scaled)
        return high, numpy.floor((scaled - high) * math.ldexp(1.0, self.bits))

    def value(self, high: Any, low: Any) -> Any:
        """What the sums of the two parts are together: a float, or an array of them."""
        return high * math.ldexp(1.0, self.exponent - self.bits) + low * math.ldexp(1.0, self.exponent - 2 * self.bits)


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


def _tables(numpy: Any, rows: Sequence[str]) -> Iterator[Any]:
    """The rows as tables of bytes, at most 255 rows and about :data:`BLOCK` cells each."""
    step = min(255, max(1, BLOCK // max(1, len(rows[0]))))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        digits = numpy.frombuffer("".join(some).encode(), dtype=numpy.uint8)
        yield (digits & 1).reshape(len(some), -1)


def _weighted_numpy(
    numpy: Any, rows: Sequence[str], counts: Sequence[int], weights: Mapping[int, float]
) -> list[float]:
    terms = _Terms([weights[count] for count in counts], len(counts))
    high, low = terms.columns(numpy)
    made: list[float] = []
    floats = None
    for table in _tables(numpy, rows):
        if floats is None:  # The first table is the largest: one buffer serves them all.
            floats = numpy.empty(table.shape)
        cells = floats[: len(table)]
        numpy.copyto(cells, table)
        made += terms.value(cells @ high, cells @ low).tolist()
    return made


def _weighted_plain(rows: Sequence[str], counts: Sequence[int], weights: Mapping[int, float]) -> list[float]:
    terms = _Terms([weights[count] for count in counts], len(counts))
    halves = dict(zip(counts, terms.halves(), strict=True))
    masks = [
        (*halves[level], int("".join("01"[count == level] for count in counts), 2)) for level in sorted(set(counts))
    ]
    return [terms.value(*_weigh(int(row, 2), masks)) for row in rows]


def _weigh(row: int, masks: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    high = low = 0.0
    for more, less, mask in masks:
        passed = (row & mask).bit_count()
        high += more * passed
        low += less * passed
    return high, low


def _density_numpy(
    numpy: Any, levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]
) -> list[float]:
    terms, width = _Terms(table, sum(histogram.values())), len(table)
    places = numpy.array(levels) - levels[0]
    crowd = numpy.zeros(width)
    crowd[places] = [histogram[level] for level in levels]
    # The kernel depends on differences alone: a convolution of the crowd with the table and its mirror image.
    sums = [
        numpy.convolve(numpy.concatenate([half[:0:-1], half]), crowd, "valid")[places] for half in terms.columns(numpy)
    ]
    return terms.value(*sums).tolist()


def _density_plain(levels: Sequence[int], histogram: Mapping[int, int], table: Sequence[float]) -> list[float]:
    terms = _Terms(table, sum(histogram.values()))
    halves = terms.halves()
    made: list[float] = []
    for level in levels:
        high = low = 0.0
        for other in levels:
            more, less = halves[abs(level - other)]
            high += more * histogram[other]
            low += less * histogram[other]
        made.append(terms.value(high, low))
    return made
