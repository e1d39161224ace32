"""Engines: what holds weights and samples from them, behind :class:`trainers.protocol.Engine`.

Invariants:

* Token ids in, token ids and their log-probabilities out; nothing is re-tokenised.
* A sample is a function of (weights, context, key, turn, shape of its batch); tokens alone fix who shares a batch
  (:mod:`trainers.engines.stream`, or lockstep in :mod:`trainers.engines.batcher`), each uniform draw by the key alone.
* Prompt keys and values are computed once for a group, a rollout's are kept between its turns, both are freed when it
  ends.

Nothing here is imported until a model is loaded: :mod:`trainers.engines.transformers` imports torch.
"""
