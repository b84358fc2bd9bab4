"""Projection by truncation: keep the leading features, pad with zeros."""

from __future__ import annotations

import torch

from ual_registry.projection.factors import Factors
from ual_registry.projection.sides import Side, products

__all__ = ["cut_side", "resize_features", "truncate"]


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
    wide = matrix.new_zeros((matrix.shape[0], width) if axis == 1 else (width, matrix.shape[1]))
    wide.narrow(axis, 0, length).copy_(matrix)
    return wide


def cut_side(factor: torch.Tensor, axis: int, width: int) -> Side:
    """Cut or zero-pad the features of a factor; see ``sides.Carry``."""
    exact = factor.to(torch.float64)
    head = resize_features(exact, min(width, factor.shape[axis]), axis)
    new = products(head, head, axis)
    if width >= factor.shape[axis]:
        return Side(fitted=resize_features(factor, width, axis), own=new, new=new)
    rest = exact.narrow(axis, width, factor.shape[axis] - width)
    return Side(fitted=resize_features(factor, width, axis), own=new + products(rest, rest, axis), new=new)


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
