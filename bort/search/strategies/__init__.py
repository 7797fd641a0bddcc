"""Strategies: which candidate is trained next, from what the study holds."""
