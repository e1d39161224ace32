"""Combinations: an outcome and step rewards to one return, one a module."""
