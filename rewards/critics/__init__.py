"""Critics: per-turn facts to step rewards, one a module."""
