"""Bootstrap intervals for means and for paired differences.

The resampled unit is the test item. For two arms the differences item by item are resampled, so what both
arms find hard does not widen the interval. What the numbers mean is left to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "mean_interval", "paired_interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Return whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of `values` with its 95 % percentile bootstrap interval.

    Args:
        values: One value for each test item.
        resamples: How many times the items are drawn anew, with replacement.
        seed: Seeds the draws.
    """
    array = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(array), size=(resamples, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), [2.5, 97.5])
    return Interval(mean=float(array.mean()), low=float(low), high=float(high))


def paired_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the mean of `values` minus `others`, item by item, with its 95 % interval."""
    return mean_interval([value - other for value, other in zip(values, others, strict=True)])
