"""Generalised advantage estimation (Schulman et al., arXiv:1506.02438) over the sampled tokens of one rollout.

    delta_t = r_t + gamma V_next - V_t        A_t = delta_t + gamma lambda A_next        return_t = A_t + V_t

*Next* is the next sampled token: the recursion is carried through tokens that were not sampled without a discount. With
values 0 and lambda 1 the returns are the discounted rewards to go, which is all that REINFORCE++ needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number a token, 0.0 where nothing was sampled."""

    advantages: list[float]
    returns: list[float]


def gae(
    rewards: Sequence[float], values: Sequence[float], mask: Sequence[bool], gamma: float, decay: float
) -> Estimate:
    """Over one rollout's tokens; ``decay`` is lambda. Raises ``ValueError`` for a reward on a token not sampled."""
    if any(r and not sampled for r, sampled in zip(rewards, mask, strict=True)):
        raise ValueError("a reward lies on a token that was not sampled; put it on the last sampled token of its turn")
    advantages, returns = [0.0] * len(rewards), [0.0] * len(rewards)
    ahead, value_ahead = 0.0, 0.0
    for t in reversed(range(len(rewards))):
        if not mask[t]:
            continue
        ahead = rewards[t] + gamma * value_ahead - values[t] + gamma * decay * ahead
        value_ahead = values[t]
        advantages[t], returns[t] = ahead, ahead + values[t]
    return Estimate(advantages, returns)
