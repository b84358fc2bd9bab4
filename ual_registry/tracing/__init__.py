"""Infer the binder of an unknown architecture from what its model computes; loads torch and transformers."""
