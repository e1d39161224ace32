"""Learning rates: functions of the number of steps alone, so that a resumed run continues exactly."""

from __future__ import annotations

from math import cos, pi

from trainers.config import OptimConfig, SftConfig

FLOOR = 0.1
"""Share of the peak that a falling rate ends at."""


def rate(config: SftConfig, step: int) -> float:
    """Learning rate of a step (from 0). It is ``lr`` at the end of the warm-up and ``decay * lr`` from the last
    step on."""
    total = max(1, -(-config.examples // config.batch))
    rise = max(1, round(config.warmup * total))
    if step < rise:
        return config.lr * (step + 1) / rise
    done = min(1.0, (step + 1 - rise) / max(1, total - rise))
    return config.lr * (1 - (1 - config.decay) * done)


def policy_rate(config: OptimConfig, step: int) -> float:
    """Learning rate of a policy-gradient step (from 0): up to ``lr`` over the warm-up, then as the schedule says."""
    rise = config.warmup or 0
    if step < rise:
        return config.lr * (step + 1) / rise
    if config.schedule in (None, "constant") or config.horizon is None:
        return config.lr
    done = min(1.0, (step - rise) / max(1, config.horizon - rise))
    left = 1 - done if config.schedule == "linear" else (1 + cos(pi * done)) / 2
    return config.lr * (FLOOR + (1 - FLOOR) * left)
