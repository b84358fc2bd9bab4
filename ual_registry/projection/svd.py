"""Projection by singular vectors: decompose, cut or pad the vectors, scale for the change of width."""

from __future__ import annotations

import torch

from ual_registry.projection import tiles
from ual_registry.projection.factors import Factors, balance, balance_by, triangular_cores
from ual_registry.projection.sides import Carried
from ual_registry.projection.truncate import resize_features, truncate

__all__ = ["balanced", "svd", "width_scale"]


def width_scale(factors: Factors, in_features: int, out_features: int) -> float:
    """Return the factor by which the method scales singular values.

    It is the square root of the ratio of the geometric mean widths, source over target.
    """
    source = (factors.in_features * factors.out_features) ** 0.5
    target = (in_features * out_features) ** 0.5
    return float((source / target) ** 0.5)


def svd(factors: Factors, in_features: int, out_features: int) -> Factors:
    """Fit an update to another shape through its singular value decomposition, balanced between the factors.

    The singular vectors are cut or zero-padded, so the result is the ``truncate`` result times ``width_scale``: the
    same pairing of feature i with feature i, hence a control between independently trained models.

    Source: the ``svd`` method of ual-adapter 0.1, by thin QR instead of a dense decomposition.

    Args:
        factors: The update, any shape.
        in_features: Columns of the result.
        out_features: Rows of the result.
    """
    return truncate(balance(factors, width_scale(factors, in_features, out_features)), in_features, out_features)


def balanced(carried: Carried, scale: float, dtype: torch.dtype) -> Factors:
    """Return ``scale`` times an update that was cut, padded with zeros and balanced as ``svd`` does.

    Args:
        carried: What ``truncate.cut_side`` made of both factors.
        scale: The number; its sign goes into ``lora_B``.
        dtype: The dtype of the result; it is computed in float64 and rounded once.
    """
    cores = triangular_cores(carried.left.own, carried.right.own)
    if cores is None:
        whole = balance(carried.source.to_float64(), abs(scale))
        found = truncate(whole, carried.in_features, carried.out_features)
        return found if scale >= 0 else found.scaled(-1.0)
    unit = torch.eye(carried.source.rank, dtype=torch.float64, device=cores[0].device)
    maps = balance_by(cores, Factors(unit, unit), abs(scale))
    return Factors(
        _mixed(carried.right.fitted, 1, maps.lora_A.T, carried.in_features, dtype),
        _mixed(carried.left.fitted, 0, maps.lora_B if scale >= 0 else -maps.lora_B, carried.out_features, dtype),
    )


def _mixed(head: torch.Tensor, axis: int, matrix: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Multiply every feature by a matrix, (rank, new rank), and pad with zeros."""
    found = tiles.mixed(head, axis, matrix, width, dtype)
    if found is None:
        exact = head.to(torch.float64)
        # As a wide product in either case, which is twice as fast as a tall one.
        product = matrix.T @ exact if axis == 1 else (matrix.T @ exact.T).T
        found = resize_features(product, width, axis).to(dtype)
    return found
