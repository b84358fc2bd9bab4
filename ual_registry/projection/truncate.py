"""Projection by truncation: keep the leading features, pad with zeros."""

from __future__ import annotations

import torch

from ual_registry.projection import tiles
from ual_registry.projection.factors import Factors
from ual_registry.projection.sides import Carried, Side, products, scaled

__all__ = ["cut_side", "padded", "resize_features", "truncate"]


def resize_features(matrix: torch.Tensor, width: int, axis: int = 1) -> torch.Tensor:
    """Cut or zero-pad an axis.

    Args:
        matrix: Two axes.
        width: The new length of the axis.
        axis: Which one.

    Returns:
        A copy where it is padded, a view where it is cut, the matrix itself where it has the width.
    """
    length = matrix.shape[axis]
    if width <= length:
        return matrix if width == length else matrix.narrow(axis, 0, width)
    wide = matrix.new_empty((matrix.shape[0], width) if axis == 1 else (width, matrix.shape[1]))
    wide.narrow(axis, 0, length).copy_(matrix)
    wide.narrow(axis, length, width - length).zero_()
    return wide


def cut_side(factor: torch.Tensor, axis: int, width: int) -> Side:
    """Cut the features of a factor; padding is left to whoever stores them, as zeros have no part in any measure.

    See ``sides.Carry``.
    """
    length = min(width, factor.shape[axis])
    new, own = tiles.grams(factor, axis, length) or _grams(factor.to(torch.float64), axis, length)
    return Side(fitted=resize_features(factor, length, axis), own=own, new=new)


def _grams(exact: torch.Tensor, axis: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what ``tiles.grams`` does, by torch."""
    head, rest = exact.narrow(axis, 0, length), exact.narrow(axis, length, exact.shape[axis] - length)
    new = products(head, head, axis)
    return new, new + products(rest, rest, axis)


def padded(carried: Carried, scale: float, dtype: torch.dtype) -> Factors:
    """Return what ``sides.scaled`` does of an update that was cut, padded with zeros."""
    found = scaled(carried, scale, dtype)
    return Factors(
        resize_features(found.lora_A, carried.in_features), resize_features(found.lora_B, carried.out_features, 0)
    )


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
    return Factors(resize_features(factors.lora_A, in_features), resize_features(factors.lora_B, out_features, 0))
