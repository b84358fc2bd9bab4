"""What `--seed` takes: a number that every generator here can be seeded with. Nothing here loads a framework."""

from __future__ import annotations

import click

from ual_registry.seeding import MOST_SEED

__all__ = ["SEED"]

SEED = click.IntRange(0, MOST_SEED)
