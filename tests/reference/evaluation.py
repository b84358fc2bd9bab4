"""The bootstrap and the recovered gain in slow, obvious Python: one draw after the other, one item after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def draws(items: int, resamples: int, seed: int) -> list[list[int]]:
    """Return the items of every draw."""
    return np.random.default_rng(seed).integers(0, items, size=(resamples, items)).tolist()


def metric(values: Sequence[float], weights: Sequence[float], drawn: Sequence[int]) -> float:
    """Return the sum of the drawn values over the sum of the drawn weights."""
    return math.fsum(values[item] for item in drawn) / math.fsum(weights[item] for item in drawn)


def percentile(numbers: Sequence[float], share: float) -> float:
    """Return the number below which a share (0..1) lies, linear between neighbours."""
    ordered = sorted(numbers)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def bounds(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval."""
    return percentile(numbers, 0.025), percentile(numbers, 0.975)


def standard_error(numbers: Sequence[float]) -> float:
    """Return the standard deviation of resamples."""
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def gains(
    arm: Sequence[float], base: Sequence[float], weights: Sequence[float], sign: int, drawn: Sequence[Sequence[int]]
) -> list[float]:
    """Return how much better than the base an arm is, in every draw."""
    return [sign * (metric(arm, weights, own) - metric(base, weights, own)) for own in drawn]


def recovered(
    arm: Sequence[float],
    native: Sequence[float],
    base: Sequence[float],
    weights: Sequence[float],
    *,
    sign: int,
    drawn: Sequence[Sequence[int]],
) -> tuple[float, float, float]:
    """Return R over all items, and its bounds: both gains of a draw are of the same items."""
    every = [list(range(len(base)))]
    value = gains(arm, base, weights, sign, every)[0] / gains(native, base, weights, sign, every)[0]
    ratios = [
        above / below
        for above, below in zip(
            gains(arm, base, weights, sign, drawn), gains(native, base, weights, sign, drawn), strict=True
        )
    ]
    return value, *bounds(ratios)
