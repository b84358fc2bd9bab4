"""What a task says of one arm: one number for each item, and how they become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Series"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one arm, item by item.

    The metric is the sum of the values over the sum of the weights, of all items or of any draw of them.

    Attributes:
        metric: Its name.
        values: Shape (n,), float64.
        weights: Shape (n,), float64, positive; the same for every arm.
        is_better_high: Whether a higher metric is better.
        is_share: Whether it counts hits, so that a difference is in points.
    """

    metric: str
    values: np.ndarray
    weights: np.ndarray
    is_better_high: bool
    is_share: bool

    @property
    def value(self) -> float:
        """The metric over all items."""
        return float(self.values.sum() / self.weights.sum())

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.is_better_high else -1
