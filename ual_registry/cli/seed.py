"""What `--seed` takes: a number that every generator here can be seeded with. Nothing here loads a framework."""

from __future__ import annotations

import click

__all__ = ["SEED"]

SEED = click.IntRange(0, 2**32 - 1)
"""NumPy's older generator, which scikit-learn and transformers seed, takes 32 bits."""
