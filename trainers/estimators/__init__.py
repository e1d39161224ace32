"""Token-level advantages, where a turn's advantage broadcast to its tokens is not what is wanted.

Pure functions of a rollout's sampled tokens, without torch. A reward lies on a sampled token or is refused: on another
one it would be lost (invariant 2). Discounts count sampled tokens only, so that what a tool prints costs nothing.
"""
