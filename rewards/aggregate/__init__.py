"""Aggregations: an attempt's test vector to one number, one a module."""
