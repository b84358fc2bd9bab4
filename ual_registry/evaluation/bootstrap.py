"""The paired bootstrap: all arms on the same draws of items, so what every arm finds hard widens no interval.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 6 and 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ual_registry.evaluation.series import Series

__all__ = ["RESAMPLES", "Interval", "interval", "resample"]

RESAMPLES = 10_000
"""How often the items are drawn anew."""

_BLOCK_NUMBERS = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with the bounds of its 95 % interval.

    Attributes:
        value: The number over all items.
        low: The 2.5th percentile of the resamples.
        high: The 97.5th.
    """

    value: float
    low: float
    high: float


def interval(value: float, drawn: np.ndarray) -> Interval:
    """Return a number with the percentile interval of its resamples, shape (resamples,)."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def resample(arms: Sequence[Series], *, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Return one metric of several arms over draws of the items, with replacement.

    Args:
        arms: The same metric of k arms, over the same n items in the same order.
        seed: Seeds the draws; they depend on nothing but the seed and n.
        resamples: How many draws.

    Returns:
        Shape (resamples, k), float64.
    """
    weights = arms[0].weights
    values = np.stack([arm.values for arm in arms], axis=1)
    blocks = [(counts @ values) / (counts @ weights)[:, None] for counts in _counts(len(weights), resamples, seed)]
    return np.concatenate(blocks)


def _counts(items: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each item was drawn, shape (block, items), float64, block by block."""
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_NUMBERS // items)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, items, size=(rows, items)) + items * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)
