"""How token losses become one number: a weight for each token that depends on lengths alone.

With R rollouts of P prompts in the step, n_i sampled tokens in rollout i, and a configured constant T:

    token-mean               1 / sum_j n_j        (DAPO; TRL "dapo", "bnpo")
    seq-mean-token-mean      1 / (R n_i)          (GRPO)
    seq-mean-token-sum-norm  1 / (R T)            (Dr. GRPO)
    seq-mean-token-sum       1 / R
    token-sum                1
    prompt-mean              1 / (P sum of the n_j of the rollout's prompt)        (SkyRL)

R, P and sum_j n_j are those of the whole optimiser step, over all micro-batches; a rollout that was split into rows
counts once. T is a setting, so the gradient does not depend on the longest row of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainers.config import Aggregation


def weights(kind: Aggregation, counts: Sequence[int], length: int, prompts: Sequence[str] = ()) -> list[float]:
    """The weight of each token of each rollout, from the rollouts' numbers of sampled tokens and, for ``prompt-mean``,
    the names of their prompts (none: each has its own)."""
    rollouts, tokens = len(counts), sum(counts)
    match kind:
        case "token-mean":
            return [1 / tokens] * rollouts
        case "seq-mean-token-mean":
            return [1 / (rollouts * count) if count else 0.0 for count in counts]
        case "seq-mean-token-sum-norm":
            return [1 / (rollouts * length)] * rollouts
        case "seq-mean-token-sum":
            return [1 / rollouts] * rollouts
        case "token-sum":
            return [1.0] * rollouts
        case "prompt-mean":
            names = prompts or [str(index) for index in range(rollouts)]
            of = Counter[str]()
            for name, count in zip(names, counts, strict=True):
                of[name] += count
            return [1 / (len(of) * of[name]) if of[name] else 0.0 for name in names]
