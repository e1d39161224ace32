"""Credit assignment: a trajectory's turn rewards to a return for each turn, one a module."""
