"""The projection methods in one explicit table, and what is measured of every projection.

A method fits one update to another shape. What it loses is measured the same way for all: the result is carried back
to the source's shape by the method's own way back, and compared with the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ual_registry.projection.factors import Factors, effective_rank, inner, norm, singular_factors
from ual_registry.projection.interpolate import interpolate
from ual_registry.projection.svd import svd
from ual_registry.projection.truncate import truncate

__all__ = ["METHODS", "Method", "Projection", "project"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One named algorithm.

    Attributes:
        name: What users type.
        fit: (factors, in_features, out_features) to new factors.
        lift: The same, for the way back on which the loss is measured.
        reference: Where it comes from.
        summary: One line for people.
    """

    name: str
    fit: Callable[[Factors, int, int], Factors]
    lift: Callable[[Factors, int, int], Factors]
    reference: str
    summary: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="svd",
            fit=svd,
            lift=truncate,
            reference="original system, 'SVD projection'",
            summary="cut or pad the singular vectors, scale for the width (control-grade)",
        ),
        Method(
            name="truncate",
            fit=truncate,
            lift=truncate,
            reference="original system, 'truncate projection'",
            summary="cut or pad features (control-grade)",
        ),
        Method(
            name="interpolate",
            fit=interpolate,
            lift=interpolate,
            reference="original system, 'interpolate projection', norm restored",
            summary="resample features linearly, norm restored (control-grade)",
        ),
    )
}
"""Every method by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A fitted update and what became of the source's.

    Attributes:
        factors: The result.
        energy_kept: Share (0..1) of the source's squared norm that lies along what comes back from the result, whatever
            its length: the squared cosine between the source and the lifted result.
        norm_ratio: Frobenius norm of the result over that of the source.
        effective_rank: Effective rank of the result.
    """

    factors: Factors
    energy_kept: float
    norm_ratio: float
    effective_rank: float


def project(factors: Factors, method: str, in_features: int, out_features: int) -> Projection:
    """Fit an update to another shape and measure what is left of it.

    Args:
        factors: The update, scaling folded in; float32 or float64.
        method: A key of ``METHODS``.
        in_features: Columns of the result.
        out_features: Rows of the result.

    Returns:
        The result and its measures; all of them 0 for the zero update.
    """
    chosen = METHODS[method]
    fitted = chosen.fit(factors, in_features, out_features)
    before, after = norm(factors), norm(fitted)
    values = singular_factors(fitted).values
    return Projection(
        factors=fitted,
        energy_kept=_squared_cosine(factors, chosen.lift(fitted, factors.in_features, factors.out_features)),
        norm_ratio=after / before if before > 0 else 0.0,
        effective_rank=effective_rank(values.to(torch.float64)),
    )


def _squared_cosine(first: Factors, second: Factors) -> float:
    product = norm(first) * norm(second)
    return min((inner(first, second) / product) ** 2, 1.0) if product > 0 else 0.0
