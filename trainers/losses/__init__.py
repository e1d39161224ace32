"""Policy losses: one algorithm per module, chosen by :class:`trainers.config.LossConfig`.

Every loss works on *flat* sampled tokens, ``N`` of them, with the index of the rollout that each belongs to: padding
does not exist, so it cannot matter. A policy loss gives one number a token; an aggregation gives one weight a token,
computed once over the whole optimiser step. The step's loss is their dot product, so splitting a step into
micro-batches or a rollout into rows changes nothing (invariant 8), as long as the rows of one rollout stay together.

Formulas, sources and the golden table: each module's docstring and ``tests/trainers/test_losses_golden.py``.
"""
