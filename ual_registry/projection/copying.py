"""Copying an update as it is, which is right between base models of one training lineage and wrong between others.

Two base models that were trained on from the same weights still point the same way, weight for weight: the cosine of
their weights is near 1. Between models that were trained independently it is near 0.
"""

from __future__ import annotations

import math

import torch

from ual_registry.errors import ShapeError, TransferError
from ual_registry.projection.factors import Factors

__all__ = ["LINEAGE_THRESHOLD", "copy_within_lineage", "lineage_cosine"]

LINEAGE_THRESHOLD = 0.9
"""The cosine above which two weights are of one lineage."""

_ROWS = 4096


def lineage_cosine(source_weight: torch.Tensor, target_weight: torch.Tensor) -> float:
    """Return the cosine of two weights of one shape, as if each were one long vector.

    Source: the lineage gate of docs/transfer.md; PortLLM (ICLR 2025) for copying inside a lineage.

    Args:
        source_weight: Shape (out, in), any floating dtype.
        target_weight: The same shape.

    Returns:
        A number from -1 to 1; 0 where a weight is zero.

    Raises:
        ShapeError: The shapes differ.
    """
    if source_weight.shape != target_weight.shape:
        raise ShapeError(
            f"weights of shapes {tuple(source_weight.shape)} and {tuple(target_weight.shape)}: expected one shape"
        )
    product = source_energy = target_energy = 0.0
    for start in range(0, len(source_weight), _ROWS):
        rows = slice(start, start + _ROWS)
        left = source_weight[rows].to(torch.float64)
        right = target_weight[rows].to(source_weight.device, torch.float64)
        product += float((left * right).sum())
        source_energy += float(left.square().sum())
        target_energy += float(right.square().sum())
    size = math.sqrt(source_energy) * math.sqrt(target_energy)
    return max(-1.0, min(product / size, 1.0)) if size > 0 else 0.0


def copy_within_lineage(
    factors: Factors,
    source_weight: torch.Tensor,
    target_weight: torch.Tensor,
    *,
    threshold: float = LINEAGE_THRESHOLD,
) -> Factors:
    """Return an update as it is, after a look at whether both base weights are of one lineage.

    Args:
        factors: The update, shape (out, in).
        source_weight: What it was trained on, shape (out, in), any floating dtype.
        target_weight: What it shall go on, the same shape.
        threshold: The cosine that must be passed.

    Raises:
        ShapeError: The shapes differ.
        TransferError: The cosine is not above the threshold.
    """
    shape = (factors.out_features, factors.in_features)
    if tuple(source_weight.shape) != shape:
        raise ShapeError(f"weight of shape {tuple(source_weight.shape)}: expected {shape}, that of the update")
    cosine = lineage_cosine(source_weight, target_weight)
    if not cosine > threshold:
        raise TransferError(
            f"the base weights are not of one lineage: their cosine is {cosine:.3f} (expected above {threshold:g})",
            code="not-one-lineage",
            hint="choose a method that aligns the two models",
            context={"cosine": cosine},
        )
    return factors
