"""Sums of updates and updates of lower rank, without the dense delta.

Updates of one shape are summed by putting their factors side by side; the sum is then brought down to a rank by a
thin QR of both factors and an SVD of their small product. Both cost O((in + out) r^2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ual_registry.errors import ShapeError
from ual_registry.projection.factors import Factors, singular_factors

__all__ = ["energy_kept", "recompress", "stack"]


def recompress(factors: Factors, rank: int) -> Factors:
    """Return the best approximation of an update in a rank, its singular values shared evenly between the factors.

    Source: Eckart and Young, The approximation of one matrix by another of lower rank, Psychometrika 1936; Golub and
    Van Loan, Matrix Computations, 4th ed., section 5.4.9 (R-SVD), applied to both sides.

    Args:
        factors: The update; lora_A (r, in), lora_B (out, r), any floating dtype.
        rank: The largest rank of the result, from 1.

    Returns:
        Float64 factors of rank min(rank, r, in, out); ``lora_B`` is U sqrt(S), ``lora_A`` is sqrt(S) V^T.

    Raises:
        ShapeError: The rank is below 1.
    """
    _require_rank(rank)
    found = singular_factors(factors.to_float64(), rank)
    root = found.values.sqrt()
    return Factors(root[:, None] * found.right, found.left * root)


def energy_kept(factors: Factors, rank: int) -> float:
    """Return the share (0..1) of an update's squared norm that ``recompress`` keeps; 1 for the zero update.

    Args:
        factors: The update, any floating dtype.
        rank: As in ``recompress``.

    Raises:
        ShapeError: The rank is below 1.
    """
    _require_rank(rank)
    values = singular_factors(factors.to_float64()).values
    largest = float(values.max()) if len(values) else 0.0
    if largest == 0.0:
        return 1.0
    energies = (values / largest).square()  # relative, so that no square leaves the range of float64
    return min(float(energies[:rank].sum() / energies.sum()), 1.0)


def stack(updates: Sequence[Factors]) -> Factors:
    """Return the sum of updates, their factors side by side; the rank is the sum of the ranks.

    Args:
        updates: At least one update; all of one shape, any floating dtypes, one device.

    Returns:
        Float64 factors.

    Raises:
        ShapeError: There is no update, or their shapes differ.
    """
    shapes = list(dict.fromkeys((item.out_features, item.in_features) for item in updates))
    if len(shapes) != 1:
        found = ", ".join(map(str, shapes)) or "none"
        raise ShapeError(f"a sum of updates: expected updates of one shape, got {found}")
    parts = [item.to_float64() for item in updates]
    return Factors(torch.cat([item.lora_A for item in parts]), torch.cat([item.lora_B for item in parts], dim=1))


def _require_rank(rank: int) -> None:
    if rank < 1:
        raise ShapeError(f"rank {rank}: expected at least 1")
