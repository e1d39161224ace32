"""What a run leaves: metrics, checkpoints, curves, a summary, and what watches it live."""
