"""What samples and what learns share: the model's parts, its shapes, packed rows, log-probabilities."""
