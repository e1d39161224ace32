"""The agent: an episode played turn by turn, and the trajectory of exact tokens and verified facts that it leaves.

Four layers: *policy* (token ids in, token ids out), *scaffold* (one parsed action a turn, one observation back),
*low-level interface* (the verbs of a sandbox), *environment* (what runs inside). This package is the first two and
knows no trainer.

    Scaffold.play_with_retries(task, policy, key)             an episode in a sandbox of its own, graded, sealed
      Episode.run -> step                                     the loop; its control flow is exceptions
      (``agent.errors``)
        Window, dropped, resumed                              ``agent.context``: budget, and the end of the window
        Actor.act(sampled) -> Done                            one answer: parsed, run, its facts taken
        Format.parse(text) -> actions | FormatError           ``agent.formats``, one a module
        Tool.run(args, scene) -> Result                       ``agent.tools``, one a module
        Tracker.after(result) -> facts                        ``agent.facts``: tree hash, attempt, diagnostics

Invariants (each has a property test):

* **Token-in, token-out.** The context given to the policy is exactly the concatenation of the turns' deltas; nothing is
  re-tokenised, and special tokens that appear in data are encoded as plain text. History that is rewritten forks: each
  sampled token belongs to the one segment that sampled it.
* Any text from a model gives an action or a format error, which is an observation and a fact; never a crash.
* Every episode ends with a reason (:class:`agent.trajectory.End`).
* **Infrastructure failure is not the policy's.** It is retried in a fresh sandbox with the recorded actions; sampled
  tokens are kept. A failure that the same actions cause again is the policy's own.
* A finished trajectory is on disk (flushed and synced) before anybody counts it (``agent.store``).
"""
