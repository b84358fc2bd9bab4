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
    "balance_by",
    "effective_rank",
    "inner",
    "norm",
    "singular_factors",
    "singular_values",
    "triangular_cores",
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

    def to(self, device: torch.device | str) -> Factors:
        """Return the update on a device."""
        return Factors(self.lora_A.to(device), self.lora_B.to(device))

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
    return _balanced(_decompose(factors), scale)


def balance_by(cores: tuple[torch.Tensor, torch.Tensor], basis: Factors, scale: float) -> Factors:
    """Balance an update of known cores, or what is left of it when rows of ``lora_B`` or columns of ``lora_A`` are cut.

    Args:
        cores: The ``triangular_cores`` of the update.
        basis: Its factors, cut or padded with zeros or not, the same dtype.
        scale: As in ``balance``.

    Returns:
        What ``balance`` returns, cut and padded likewise.
    """
    return _balanced(_decomposed(cores, basis), scale)


def _balanced(found: _Decomposition, scale: float) -> Factors:
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
    return _decomposed(cores, factors)


def _decomposed(cores: tuple[torch.Tensor, torch.Tensor], basis: Factors) -> _Decomposition:
    left_core, right_core = cores
    left, values, right = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    left_map = torch.linalg.solve_triangular(left_core, left, upper=True)
    right_map = torch.linalg.solve_triangular(right_core, right.T, upper=True)
    return _Decomposition(basis.lora_B, left_map, values, right_map, basis.lora_A)


def _tall(basis: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    """Multiply a tall matrix with a small one; as a wide product, which is twice as fast."""
    return (small.T @ basis.T).T


_MAX_GRAM_ERROR = 1e-8


def _gram_cores(factors: Factors) -> tuple[torch.Tensor, torch.Tensor] | None:
    return triangular_cores(factors.lora_B.T @ factors.lora_B, factors.lora_A @ factors.lora_A.T)


def triangular_cores(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return upper triangular R with ``B = Q R`` and ``A^T = Q R``, or nothing where rounding would show.

    A Gram matrix squares the condition number, so the orthogonality error is about eps times its square.

    Args:
        left: ``B^T B``, shape (rank, rank).
        right: ``A A^T``, the same shape and dtype.
    """
    lower, failures = torch.linalg.cholesky_ex(torch.stack((left, right)))
    if any(failures.tolist()):
        return None
    condition = max(max(own) / min(own) for own in lower.diagonal(dim1=1, dim2=2).tolist())
    if not torch.finfo(lower.dtype).eps * condition**2 < _MAX_GRAM_ERROR:
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
    held = [value for value in values.tolist() if value > 0]
    total = math.fsum(held)
    return math.exp(-math.fsum(value / total * math.log(value / total) for value in held)) if total > 0 else 0.0
