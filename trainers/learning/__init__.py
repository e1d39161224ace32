"""From credit to weights: rows, micro-batches, the optimiser, one process or several, and the warm start."""
