"""Projection by singular vectors: decompose, cut or pad the vectors, scale for the change of width."""

from __future__ import annotations

from ual_registry.projection.factors import Factors, balance, balance_by, triangular_cores
from ual_registry.projection.sides import Carried
from ual_registry.projection.truncate import truncate

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


def balanced(carried: Carried, scale: float) -> Factors:
    """Return ``scale`` times an update that was cut and padded, balanced as ``svd`` does.

    Args:
        carried: What ``truncate.cut_side`` made of both factors.
        scale: The number; its sign goes into ``lora_B``.

    Returns:
        Float64 factors.
    """
    cores = triangular_cores(carried.left.own, carried.right.own)
    fitted = carried.fitted
    if cores is not None:
        found = balance_by(cores, fitted.to_float64(), abs(scale))
    else:
        whole = balance(carried.source.to_float64(), abs(scale))
        found = truncate(whole, fitted.in_features, fitted.out_features)
    return found if scale >= 0 else found.scaled(-1.0)
