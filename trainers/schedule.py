"""The warm start's learning rate: up from 0, then down in a straight line, a function of the number of steps alone."""

from __future__ import annotations

from trainers.config import SftConfig


def rate(config: SftConfig, step: int) -> float:
    """Learning rate of a step (from 0). It is ``lr`` at the end of the warm-up and ``decay * lr`` from the last
    step on."""
    total = max(1, -(-config.examples // config.batch))
    rise = max(1, round(config.warmup * total))
    if step < rise:
        return config.lr * (step + 1) / rise
    done = min(1.0, (step + 1 - rise) / max(1, total - rise))
    return config.lr * (1 - (1 - config.decay) * done)
