"""The inputs of the golden table in closed form, and a loss with its gradient on them."""

from __future__ import annotations

import torch

from trainers.config import Clip, LossConfig
from trainers.losses.aggregate import weights
from trainers.losses.build import losses
from trainers.losses.tokens import Tokens

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
ROW, COLUMN = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
NOW = -1 - 0.1 * COLUMN + 0.05 * ROW
OLD = NOW - 0.3 * torch.sin(1 + 2 * ROW + 3 * COLUMN)
SAMPLER = OLD - 0.2 * torch.cos(2 + ROW + 2 * COLUMN)
REFERENCE = NOW - 0.15 * torch.cos(ROW + COLUMN)
ADVANTAGE = torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None].expand(4, 6)
TURNWISE = torch.cos(ROW + COLUMN)
GRPO, DAPO, DR = "seq-mean-token-mean", "token-mean", "seq-mean-token-sum-norm"
LOW, HIGH = Clip(low=0.2, high=0.2), Clip(low=0.2, high=0.28)


def shifted(by: list[float]) -> torch.Tensor:
    return NOW - torch.tensor(by)[:, None]


def evaluate(config: LossConfig, **changed: torch.Tensor) -> tuple[float, float]:
    """Loss and norm of its gradient with respect to ``now`` alone."""
    grids = {"now": NOW, "old": OLD, "sampler": SAMPLER, "advantage": ADVANTAGE, "reference": REFERENCE, **changed}
    flat = {name: grid[MASK].clone() for name, grid in grids.items()}
    flat["now"].requires_grad_(True)
    rollout = ROW.long()[MASK]
    per_rollout = torch.tensor(weights(config.aggregation, MASK.sum(1).tolist(), config.length))
    loss = (losses(config, Tokens(rollout=rollout, **flat)) * per_rollout[rollout]).sum()
    loss.backward()
    assert flat["now"].grad is not None
    return loss.item(), flat["now"].grad.norm().item()


BIG = shifted([0.1, 2.0, -0.1, 0.5])
SMALL = shifted([0.1, -2.0, -0.1, 0.5])
WEIGHTED = OLD - torch.tensor([0.1, 0.3, 0.2, 1.2])[:, None]
