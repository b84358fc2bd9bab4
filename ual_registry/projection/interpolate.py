"""Projection by interpolation: features are samples of a smooth curve, which is sampled anew."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate as resample

from ual_registry.projection.factors import Factors, norm

__all__ = ["interpolate", "resample_features"]


def resample_features(matrix: torch.Tensor, width: int) -> torch.Tensor:
    """Sample the last axis anew, linearly, with half-pixel centres (``align_corners=False``).

    Args:
        matrix: Shape (r, n).
        width: The new length of the last axis.

    Returns:
        Shape (r, width); the matrix itself where that is its shape, as every new sample is an old one then.
    """
    if matrix.shape[-1] == width:
        return matrix
    return resample(matrix[None], size=width, mode="linear", align_corners=False)[0]


def interpolate(factors: Factors, in_features: int, out_features: int) -> Factors:
    """Fit an update to another shape by linear interpolation along both feature axes, norm restored.

    Neighbouring features of a model mean nothing to one another, so the result carries nothing between
    independently trained models; the method is a control. Plain interpolation changes the norm of the update
    by a factor that depends on the shapes alone, so the norm of the source is restored.

    Source: the ``interpolate`` method of ual-adapter 0.1, which leaves the norm uncontrolled.

    Args:
        factors: The update, any shape.
        in_features: Columns of the result.
        out_features: Rows of the result.
    """
    if (in_features, out_features) == (factors.in_features, factors.out_features):
        return factors
    raw = Factors(
        resample_features(factors.lora_A, in_features),
        resample_features(factors.lora_B.T.contiguous(), out_features).T,
    )
    wanted, got = norm(factors), norm(raw)
    return raw.scaled(wanted / got) if got > 0 else raw
