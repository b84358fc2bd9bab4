"""Projection through the leading singular subspaces of both base weights: pair i of one goes to pair i of the other.

Nothing but the rank order pairs them, and the sign of a singular pair means nothing; how much of the result hangs on
signs is part of what is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ual_registry.errors import ShapeError
from ual_registry.projection.difference import core_norm
from ual_registry.projection.factors import Factors

__all__ = ["Subspaces", "leading_subspaces", "sign_variance", "subspace", "subspace_energy", "through_subspaces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspaces:
    """The leading singular vectors of a weight, signs fixed.

    Attributes:
        left: Shape (out, k), orthonormal columns, float64.
        right: Shape (in, k), orthonormal columns, float64; the entry of largest magnitude of each is positive.
    """

    left: torch.Tensor
    right: torch.Tensor


def leading_subspaces(weight: torch.Tensor, k: int | None = None) -> Subspaces:
    """Return the k leading singular pairs of a weight, each sign chosen by the largest entry of its right vector.

    Args:
        weight: Shape (out, in), any floating dtype.
        k: From 1; min(out, in) where absent or larger.

    Raises:
        ShapeError: The weight is no matrix, or k is below 1.
    """
    if weight.ndim != 2 or (k is not None and k < 1):
        raise ShapeError(f"weight of shape {tuple(weight.shape)}, k {k}: expected a matrix and k of at least 1")
    left, _, right = torch.linalg.svd(weight.to(torch.float64), full_matrices=False)
    left, right = left[:, :k], right[:k].T
    largest = right.abs().argmax(0, keepdim=True)
    signs = torch.where(right.gather(0, largest) < 0, -1.0, 1.0).to(right)
    return Subspaces(left=left * signs, right=right * signs)


def subspace(
    factors: Factors, source_weight: torch.Tensor, target_weight: torch.Tensor, k: int | None = 320
) -> Factors:
    """Fit an update to another base weight: ``U_t (U_s^T delta V_s) V_t^T``, in factors.

    Source: Cross-LoRA (arXiv 2508.05232), in the one reading of its equation 7 that fits weights of different shapes;
    k is the paper's.

    Args:
        factors: The update, shape (out_s, in_s), any floating dtype.
        source_weight: Shape (out_s, in_s), any floating dtype.
        target_weight: Shape (out_t, in_t), any floating dtype.
        k: How many singular pairs; cut to what both weights have.

    Returns:
        Float64 factors of the same rank, shape (out_t, in_t).

    Raises:
        ShapeError: Weight and update do not fit, or k is below 1.
    """
    return through_subspaces(factors, leading_subspaces(source_weight, k), leading_subspaces(target_weight, k))


def through_subspaces(factors: Factors, source: Subspaces, target: Subspaces) -> Factors:
    """Fit an update to another base weight whose singular vectors are known; see ``subspace``.

    Args:
        factors: The update, shape (out_s, in_s), any floating dtype.
        source: Of the source's weight.
        target: Of the target's weight; the smaller k of both counts.

    Raises:
        ShapeError: Weight and update do not fit.
    """
    k = min(source.left.shape[1], target.left.shape[1])
    inside = _inside(factors, source, k)
    return Factors(inside.lora_A @ target.right[:, :k].T, target.left[:, :k] @ inside.lora_B)


def subspace_energy(factors: Factors, source: Subspaces) -> float:
    """Return the share (0..1) of an update's squared norm inside the leading subspaces; 0 for the zero update.

    Raises:
        ShapeError: Weight and update do not fit.
    """
    whole = core_norm(factors.to_float64())
    return min((core_norm(_inside(factors, source, source.left.shape[1])) / whole) ** 2, 1.0) if whole > 0 else 0.0


def sign_variance(factors: Factors, source: Subspaces, target: Subspaces) -> float:
    """Return how much of the result hangs on the signs: the mean of ``|other - delta_t|^2 / |delta_t|^2``.

    The mean is over all results that differ in the signs of the singular pairs alone, which are all equally right. With
    the core ``C = U_s^T delta V_s`` it is ``2 (1 - sum_i C_ii^2 / |C|^2)``: only the diagonal keeps its signs.

    Args:
        factors: The update, any floating dtype.
        source: Of the source's weight.
        target: Of the target's weight.

    Returns:
        From 0 (the signs change nothing) to 2 (as far apart as two unrelated updates); 0 for the zero update.

    Raises:
        ShapeError: Weight and update do not fit.
    """
    inside = _inside(factors, source, min(source.left.shape[1], target.left.shape[1]))
    whole = core_norm(inside)
    if whole == 0.0:
        return 0.0
    diagonal = (inside.lora_B * inside.lora_A.T).sum(1)
    return max(0.0, 2.0 * (1.0 - (float(torch.linalg.vector_norm(diagonal)) / whole) ** 2))


def _inside(factors: Factors, source: Subspaces, k: int) -> Factors:
    """Return the core ``U_s^T delta V_s`` of an update, shape (k, k), as factors."""
    shape = (len(source.left), len(source.right))
    if (factors.out_features, factors.in_features) != shape:
        raise ShapeError(
            f"update of shape {(factors.out_features, factors.in_features)}: expected {shape}, that of its weight"
        )
    own = factors.to_float64()
    return Factors(own.lora_A @ source.right[:, :k], source.left[:, :k].T @ own.lora_B)
