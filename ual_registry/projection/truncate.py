"""Projection by truncation: keep the leading features, pad with zeros."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from ual_registry.projection.factors import Factors

__all__ = ["resize_features", "truncate"]


def resize_features(matrix: torch.Tensor, width: int) -> torch.Tensor:
    """Cut or zero-pad the last axis.

    Args:
        matrix: Shape (..., n).
        width: The new length of the last axis.

    Returns:
        Shape (..., width).
    """
    missing = width - matrix.shape[-1]
    return pad(matrix, (0, missing)) if missing > 0 else matrix[..., :width]


def truncate(factors: Factors, in_features: int, out_features: int) -> Factors:
    """Fit an update to another shape by cutting or zero-padding its rows and columns.

    Feature i of the source is taken for feature i of the target. Between independently trained models that pairing
    is random, so the result carries nothing; the method is a control.

    Source: the ``truncate`` method of ual-adapter 0.1; research note in docs/transfer.md.

    Args:
        factors: The update, any shape.
        in_features: Columns of the result.
        out_features: Rows of the result.
    """
    return Factors(resize_features(factors.lora_A, in_features), resize_features(factors.lora_B.T, out_features).T)
