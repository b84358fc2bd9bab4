"""A low-rank update as its two factors, and the mathematics that never forms the product.

With ``lora_B`` of shape (out, r) and ``lora_A`` of shape (r, in), everything here costs O((in + out) r^2), where a
dense decomposition of the (out, in) product costs O(d^3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = [
    "Factors",
    "SingularFactors",
    "balance",
    "effective_rank",
    "inner",
    "norm",
    "singular_factors",
    "singular_values",
]


@dataclass(frozen=True, slots=True)
class Factors:
    """The update ``lora_B @ lora_A``, its scaling folded into ``lora_B``.

    Attributes:
        lora_A: Shape (rank, in_features), floating point.
        lora_B: Shape (out_features, rank), the same dtype and device.
    """

    lora_A: torch.Tensor
    lora_B: torch.Tensor

    @property
    def rank(self) -> int:
        """Columns of ``lora_B``."""
        return self.lora_A.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the update."""
        return self.lora_A.shape[1]

    @property
    def out_features(self) -> int:
        """Rows of the update."""
        return self.lora_B.shape[0]

    def scaled(self, factor: float) -> Factors:
        """Return the update times ``factor``."""
        return Factors(self.lora_A, self.lora_B * factor)

    def to_float64(self) -> Factors:
        """Return the update in float64, on the same device."""
        return Factors(self.lora_A.to(torch.float64), self.lora_B.to(torch.float64))


@dataclass(frozen=True, slots=True)
class SingularFactors:
    """The singular value decomposition of an update, in its rank.

    Attributes:
        left: Shape (out_features, k), orthonormal columns.
        values: Shape (k,), descending, not negative.
        right: Shape (k, in_features), orthonormal rows.
    """

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor


def singular_factors(factors: Factors, rank: int | None = None) -> SingularFactors:
    """Decompose an update through triangular cores of both factors and an SVD of their small product.

    Well-conditioned factors take their cores from Cholesky factors of the r x r Gram matrices, which needs four
    products of a tall matrix; all others from Householder QR. Both are exact up to rounding.

    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 5.4.9 (R-SVD), applied to both sides; Fukaya et
    al., CholeskyQR2, ScalA 2014, for when one Cholesky step is enough.

    Args:
        factors: The update; k is at most min(rank, in, out).
        rank: How many singular values to keep; all where absent.

    Returns:
        The leading singular triples.
    """
    found = _decompose(factors)
    keep = slice(None, rank)
    return SingularFactors(
        _tall(found.left_basis, found.left_map[:, keep]),
        found.values[keep],
        found.right_map[:, keep].T @ found.right_basis,
    )


def singular_values(factors: Factors) -> torch.Tensor:
    """Return the singular values of an update, descending, without its singular vectors; as ``singular_factors``."""
    return _decompose(factors).values


def balance(factors: Factors, scale: float = 1.0) -> Factors:
    """Return ``scale`` times an update, its singular values shared evenly: ``U sqrt(S)`` and ``sqrt(S) V^T``.

    Args:
        factors: The update.
        scale: Not negative.
    """
    found = _decompose(factors)
    root = (found.values * scale).sqrt()
    return Factors((found.right_map * root).T @ found.right_basis, _tall(found.left_basis, found.left_map * root))


@dataclass(frozen=True, slots=True)
class _Decomposition:
    """Singular vectors as small maps of tall bases.

    ``U = left_basis @ left_map`` and ``V^T = right_map^T @ right_basis``.
    """

    left_basis: torch.Tensor
    left_map: torch.Tensor
    values: torch.Tensor
    right_map: torch.Tensor
    right_basis: torch.Tensor


def _decompose(factors: Factors) -> _Decomposition:
    cores = _gram_cores(factors)
    if cores is None:
        left_basis, left_core = torch.linalg.qr(factors.lora_B)
        right_basis, right_core = torch.linalg.qr(factors.lora_A.T)
        left, values, right = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
        return _Decomposition(left_basis, left, values, right.T, right_basis.T)
    left_core, right_core = cores
    left, values, right = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    left_map = torch.linalg.solve_triangular(left_core, left, upper=True)
    right_map = torch.linalg.solve_triangular(right_core, right.T, upper=True)
    return _Decomposition(factors.lora_B, left_map, values, right_map, factors.lora_A)


def _tall(basis: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    """Multiply a tall matrix with a small one; as a wide product, which is twice as fast."""
    return (small.T @ basis.T).T


_MAX_GRAM_ERROR = 1e-8


def _gram_cores(factors: Factors) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return upper triangular R with ``B = Q R`` and ``A^T = Q R``, or nothing where rounding would show.

    A Gram matrix squares the condition number, so the orthogonality error is about eps times its square.
    """
    grams = torch.stack((factors.lora_B.T @ factors.lora_B, factors.lora_A @ factors.lora_A.T))
    lower, failures = torch.linalg.cholesky_ex(grams)
    diagonal = lower.diagonal(dim1=1, dim2=2)
    condition = diagonal.amax(1) / diagonal.amin(1)
    error = torch.finfo(grams.dtype).eps * float(condition.max()) ** 2
    if bool(failures.any()) or not error < _MAX_GRAM_ERROR:
        return None
    return lower[0].T, lower[1].T


def inner(first: Factors, second: Factors) -> float:
    """Return the Frobenius inner product of two updates of the same shape, by r x r matrices alone.

    It is computed in float64: the squares of float32 numbers may leave the range of float32.
    """
    left = first.lora_B.T.double() @ second.lora_B.double()
    right = first.lora_A.double() @ second.lora_A.T.double()
    return float(torch.dot(left.flatten(), right.flatten()))


def norm(factors: Factors) -> float:
    """Return the Frobenius norm of an update."""
    return math.sqrt(max(inner(factors, factors), 0.0))


def effective_rank(values: torch.Tensor) -> float:
    """Return how many singular values count: the exponential of their entropy.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007, definition 1.

    Args:
        values: Singular values, shape (k,).

    Returns:
        A number from 1 to k; 0 for the zero update.
    """
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))
