"""Costs of a soup and of a run, and the limits on them."""
