"""Training: episodes in waves, credit to rows, rows to weights, and a run that survives a kill.

    loop, step      one run: evaluate, warm start, evaluate, policy-gradient steps until the budget, evaluate, summary
    rollout/        episodes in time: ``sources`` gives a step its groups, ``scheduler`` plays them in fixed waves,
                    ``flow`` keeps them in flight over updates as ``admission`` allows (``simulate``: on a fake clock);
                    ``shelf`` keeps what is finished; ``hints`` and ``lessons`` help groups that nobody solved
    learning/       credit to weights: ``rows``, ``batch``, the ``learner`` and its ``optimiser``; several processes as
                    one (``ranks``, ``sharded``: FSDP2, ``zero``: DeepSpeed); the warm start (``sft``, ``imitate``)
    model/          what samples and what learns share: ``load``, ``attention``, ``packing``, ``logprobs``, ``masters``
    record/         what a run leaves: ``checkpoint``, ``metrics``, ``curves``, ``summary``, and what watches it live
    engines/        what samples; ``sync/``: how weights get there
    losses/         what is descended, one a module; ``estimators/``: advantages that differ from token to token
    machine, served, sampler    an engine and a learner on the same weights; beside a server; sampling alone
    plan            what a run will need, before anything is loaded
    doubles         a whole trainer in memory, for tests

Invariants:

* The trainer knows no reward by name: a scorer turns a group into credit, credit becomes per-token advantages on
  sampled tokens, and a loss sees rows of those.
* A finished trajectory is on disk before it is counted. State, weights and files agree at every checkpoint, and a run
  that was killed ends with the same weights and metrics as one that was not (in ``sync`` mode, timing aside).
* Infrastructure failures are masked, counted, and never learned from.
* Held-out tasks are evaluated and decide nothing.

Configuration (``config``, ``loop_config``) and the loop import no torch; the engine and the learner are loaded last.
"""
