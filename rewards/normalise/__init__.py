"""Group normalisers: returns to advantages, one a module."""
