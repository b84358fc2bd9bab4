"""Runnable examples: real small models, one small task, and a walk through the product."""
