"""Episodes in time: which prompt is next, what may be in flight, what is stored, what a step is given."""
