"""One factor of an update on its way to another width, and the Gram matrices that say what became of it.

The methods that need nothing but shapes carry each factor by itself. All that is measured of them follows from
matrices of rank x rank, which are taken once, in float64, while the factor is at hand. How features are carried is
left to the methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ual_registry.projection.factors import Factors, singular_values, triangular_cores

__all__ = ["Carried", "Carry", "Side", "carried_whole", "products", "scaled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One factor, and what became of it.

    Attributes:
        fitted: The factor in its new width; the dtype is float64 or that of the source.
        own: Gram matrix of the source's features, shape (rank, rank), float64, as all others.
        new: That of the fitted ones.
        back: That of what comes back from the fitted ones; ``None`` where it is ``new``.
        cross: Products of the source's features and those that come back; ``None`` where they are ``new``.
    """

    fitted: torch.Tensor
    own: torch.Tensor
    new: torch.Tensor
    back: torch.Tensor | None = None
    cross: torch.Tensor | None = None


Carry = Callable[[torch.Tensor, int, int], Side]
"""(factor, the axis of its features, their new number) to what became of it."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Both factors of an update in their new widths.

    Attributes:
        source: The update.
        right: What became of ``lora_A``.
        left: What became of ``lora_B``.
        in_features: Columns of the result.
        out_features: Rows of the result.
        size: Frobenius norm of the source.
    """

    source: Factors
    right: Side
    left: Side
    in_features: int
    out_features: int
    size: float

    @property
    def fitted(self) -> Factors:
        """The update as it was carried; its factors may differ in dtype."""
        return Factors(self.right.fitted, self.left.fitted)

    def new_size(self) -> float:
        """Return the Frobenius norm of what was fitted."""
        return _root(self.left.new, self.right.new)

    def cosine(self) -> float | None:
        """Return that between the source and what comes back, ``None`` where features were only cut and padded."""
        if self.left.back is None and self.right.back is None:
            return None
        back = _root(_or(self.left.back, self.left.new), _or(self.right.back, self.right.new))
        both = _dot(_or(self.left.cross, self.left.new), _or(self.right.cross, self.right.new))
        return both / (self.size * back) if self.size > 0 and back > 0 else 0.0

    def values(self) -> torch.Tensor:
        """Return the singular values of what was fitted, descending, in float64."""
        cores = triangular_cores(self.left.new, self.right.new)
        if cores is None:
            return singular_values(self.fitted.to_float64())
        found: torch.Tensor = torch.linalg.svdvals(cores[0] @ cores[1].T)
        return found


def carried_whole(factors: Factors, carry: Carry, in_features: int, out_features: int) -> Carried:
    """Carry both factors of an update.

    Args:
        factors: The update, any floating dtype.
        carry: How a factor is carried.
        in_features: Columns of the result.
        out_features: Rows of the result.
    """
    right, left = carry(factors.lora_A, 1, in_features), carry(factors.lora_B, 0, out_features)
    return Carried(factors, right, left, in_features, out_features, _root(left.own, right.own))


def scaled(carried: Carried, scale: float, dtype: torch.dtype) -> Factors:
    """Return ``scale`` times an update that was carried: ``lora_A`` as it is, ``lora_B`` rounded once.

    Args:
        carried: The update.
        scale: The number, of either sign.
        dtype: What is computed is rounded to it.
    """
    lora_B = carried.left.fitted
    if scale == 1.0:
        return carried.fitted
    is_exact = abs(math.frexp(scale)[0]) == 0.5  # a power of two changes the exponents alone, in any dtype
    times = lora_B * scale if is_exact else (lora_B.to(torch.float64) * scale).to(dtype)
    return Factors(carried.right.fitted, times)


def products(first: torch.Tensor, second: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the inner products of the features of two factors, shape (rank, rank).

    Args:
        first: A factor, float64.
        second: Another of the same shape, float64.
        axis: That of the features.
    """
    return first @ second.T if axis == 1 else first.T @ second


def _or(found: torch.Tensor | None, otherwise: torch.Tensor) -> torch.Tensor:
    return otherwise if found is None else found


def _dot(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(torch.dot(left.view(-1), right.view(-1)))


def _root(left: torch.Tensor, right: torch.Tensor) -> float:
    return math.sqrt(max(_dot(left, right), 0.0))
