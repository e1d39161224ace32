"""REINFORCE++ (Hu et al., arXiv:2501.03262): discounted returns, whitened over all tokens of a step.

A rollout's advantage over its group is the reward of its last sampled token; a token's return is that reward times
gamma to the number of sampled tokens between them. The returns are then whitened over the sampled tokens of all
rollouts of the step, on every rank. With gamma 1 that is the paper's variant with a group baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainers.config import ReinforcePlusPlus
from trainers.estimators.gae import gae
from trainers.estimators.whiten import whitened
from trainers.learning import batch
from trainers.protocol import Row


def estimated(config: ReinforcePlusPlus, rows: Sequence[Row]) -> list[Row]:
    """The rows with these advantages, in their order. Raises ``ValueError`` where a rollout has more than one
    advantage: rewards of single turns have no place in an outcome's return."""
    found = batch.rollouts(rows)
    returns = iter(whitened([value for part in found.values() for value in _returns(config.gamma, part)]))
    made = {
        id(row): replace(row, advantages=tuple(next(returns) if sampled else 0.0 for sampled in row.mask))
        for part in found.values()
        for row in part
    }
    return [made[id(row)] for row in rows]


def _returns(gamma: float, rows: Sequence[Row]) -> list[float]:
    """Returns of one rollout's sampled tokens, over all of its rows."""
    credit = [a for row in rows for a, sampled in zip(row.advantages, row.mask, strict=True) if sampled]
    if len(set(credit)) > 1:
        raise ValueError(
            f"rollout {rows[0].rollout} has a different advantage by turn, which loss.estimator = 'reinforce++' cannot "
            "use; unset it, or take a reward recipe without turn credit"
        )
    rewards = [0.0] * (len(credit) - 1) + credit[-1:]
    return gae(rewards, [0.0] * len(credit), [True] * len(credit), gamma, 1.0).returns
