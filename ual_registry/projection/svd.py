"""Projection by singular vectors: decompose, cut or pad the vectors, scale for the change of width."""

from __future__ import annotations

from ual_registry.projection.factors import Factors, balance
from ual_registry.projection.truncate import truncate

__all__ = ["svd", "width_scale"]


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
