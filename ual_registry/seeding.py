"""What can seed every generator that is used here."""

from __future__ import annotations

from ual_registry.errors import TransferError

__all__ = ["MOST_SEED", "require_seed"]

MOST_SEED = 2**32 - 1
"""NumPy's older generator, which scikit-learn and transformers seed, takes 32 bits."""


def require_seed(seed: int) -> None:
    """Refuse a seed that a generator would not take, before anything is drawn.

    Raises:
        TransferError: It is no whole number from 0 to ``MOST_SEED``.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise TransferError(f"seed {seed!r}: expected a whole number from 0 to {MOST_SEED}", code="bad-option")
