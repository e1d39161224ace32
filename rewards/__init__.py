"""Rewards: from the facts of a group of trajectories to credit for each of their turns.

    critics -> combination -> return -> normaliser ------> A_traj --+
    turn source -> gate -> credit assignment -> normaliser -> A_turn +-> A_traj + beta * A_turn

Invariants:

* **Rewards see groups.** ``Recipe(config).score(group) -> Credit``; the trainer sees only per-turn advantages
  (design, invariant 3).
* **Pure.** Functions of stored trajectories: no torch, no I/O, no clock, no randomness; a replay gives the same bits
  (invariant 9).
* **Order.** Tests pass > tests fail >= empty patch >= no submit, strictly where the levels differ; a config that
  could break the order is refused when it is read (:mod:`rewards.order`).
* **Masking.** Infrastructure failures are outside every statistic (invariant 6); a group left with fewer than two
  members, and the part of the credit that cannot tell its members apart, is exactly 0.
* **Gate before centring, baselines from returns.** What a gate closes is zero before any mean is taken; options that
  centre first say so.
* A fact that was not measured is refused by name, never taken for 0.

Each slot is a small class in a module of its own: :mod:`rewards.critics`, :mod:`rewards.aggregate`,
:mod:`rewards.combine`, :mod:`rewards.assign`, :mod:`rewards.normalise`. Import :class:`rewards.config.RewardConfig`
and :class:`rewards.recipe.Recipe`.
"""
