"""Rates with 95 % intervals clustered by task, and paired differences between two evaluations.

Samples of one task are not independent, so the task is the cluster. With y_c successes in the m_c samples of task c,
C tasks and M = sum m_c, the rate is the ratio estimator p = sum y_c / M with the cluster-robust variance

    V = C / (C - 1) * sum_c (y_c - p m_c)^2 / M^2

(linearisation; Cochran, *Sampling Techniques*, 3rd ed., section 9A.7, without the finite population correction). The
interval is Wilson's with the effective sample size n = p (1 - p) / V, capped at M, in place of the sample size and the
0.975 quantile t of Student's distribution with C - 1 degrees of freedom in place of 1.96 (Korn and Graubard 1998 use
both devices): unlike p +- t sqrt(V) it stays in [0, 1] and keeps a width when every sample agrees. There V = 0 says
nothing, and n = C is taken: the samples of a task then count as one.

A paired difference averages d_c = mean after - mean before over the tasks that both evaluations graded, with the
interval d +- t s / sqrt(C), where s is the standard deviation of d_c. It is what a before/after claim should rest on:
the tasks' own difficulty cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from statistics import mean, stdev

from pydantic import BaseModel, ConfigDict

Z = 1.959963984540054
"""0.975 quantile of the normal distribution."""


class Estimate(BaseModel):
    """A number with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    n: int
    """Samples (of a rate) or tasks (of a difference)."""
    clusters: int
    """Tasks."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def rate(samples: Mapping[str, Sequence[bool]]) -> Estimate | None:
    """The share of true samples over tasks -> samples; ``None`` when there is no sample."""
    clusters = [(sum(values), len(values)) for values in samples.values() if values]
    total = sum(m for _, m in clusters)
    if not total:
        return None
    p = sum(y for y, _ in clusters) / total
    low, high = _wilson(p, _effective(clusters, p, total), student(len(clusters) - 1))
    return Estimate(value=p, low=low, high=high, n=total, clusters=len(clusters))


def difference(before: Mapping[str, Sequence[bool]], after: Mapping[str, Sequence[bool]]) -> Estimate | None:
    """The paired difference of the rates over tasks with a sample in both; ``None`` when there is none."""
    deltas = [mean(after[task]) - mean(before[task]) for task in before if before[task] and after.get(task)]
    if not deltas:
        return None
    value, count = mean(deltas), len(deltas)
    half = student(count - 1) * stdev(deltas) / sqrt(count) if count > 1 else 1.0
    return Estimate(value=value, low=max(-1.0, value - half), high=min(1.0, value + half), n=count, clusters=count)


def student(df: int) -> float:
    """0.975 quantile of Student's t, by the expansion in 1/df of Abramowitz and Stegun 26.7.5.

    Within 0.002 from 4 degrees of freedom on; 1 to 3 are tabulated, and without any (one task) nothing is known.
    """
    if df < 1:
        return inf
    if df <= 3:
        return (12.706205, 4.302653, 3.182446)[df - 1]
    z, v = Z, float(df)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


def _effective(clusters: Sequence[tuple[int, int]], p: float, total: int) -> float:
    count = len(clusters)
    if count < 2:
        return 1.0
    variance = count / (count - 1) * sum((y - p * m) ** 2 for y, m in clusters) / total**2
    if variance == 0 or p in (0.0, 1.0):
        return float(count)
    return min(float(total), p * (1 - p) / variance)


def _wilson(p: float, n: float, t: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion p of n samples at quantile t."""
    if t == inf:
        return 0.0, 1.0
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
