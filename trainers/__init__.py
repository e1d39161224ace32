"""Training: episodes in waves, credit to rows, rows to weights, and a run that survives a kill.

    loop        one run: evaluate, warm start, evaluate, policy-gradient steps until the budget, evaluate, summary
    sources     where a step's groups come from: ``scheduler`` plays them in fixed waves, ``flow`` keeps them in flight
                over updates as ``admission`` allows (``simulate`` does so on a fake clock)
    player      plays one episode, ``shelf`` keeps the finished ones, ``hints`` helps groups that nobody solved,
                ``lessons`` says in hindsight what went wrong
    ranks       several processes that learn as one; ``plan`` and ``shapes`` say what a run will need
    engines     what samples; ``losses`` what is descended; ``model``, ``attention``, ``packing`` what both share
    estimators, teacher      advantages that differ from token to token; ``average`` a running average of the weights
    checkpoint, folder, metrics, order      what a run is made of on disk
    statistics, tally, summary, curves, display      what a run showed

Invariants:

* The trainer knows no reward by name: a scorer turns a group into credit, credit becomes per-token advantages on
  sampled tokens, and a loss sees rows of those.
* A finished trajectory is on disk before it is counted. State, weights and files agree at every checkpoint, and a run
  that was killed ends with the same weights and metrics as one that was not (in ``sync`` mode, timing aside).
* Infrastructure failures are masked, counted, and never learned from.
* Held-out tasks are evaluated and decide nothing.

Configuration (``config``, ``loop_config``) and the loop import no torch; the engine and the learner are loaded last.
"""
