"""Symmetric systems of second moments, solved so that few rows, or rows of low rank, are said and survived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch

__all__ = ["Caution", "FitReport", "power", "solve_ridge"]


class Caution(StrEnum):
    """What to know about a fit before it is trusted."""

    FEW_ROWS = "few-rows"
    """There are fewer rows than features, so that the penalty alone decides in some directions."""
    RANK_DEFICIENT = "rank-deficient"
    """The rows leave some directions undetermined; the map is zero, or next to it, along them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """How a map was fitted.

    Attributes:
        count: How many pairs of rows there were.
        width: How many directions were to be determined.
        rank: How many of them the rows determine; ``None`` where the penalty is large enough not to look.
        penalty: What was added to the diagonal, over its mean (a number from 0).
        cautions: What to know.
    """

    count: int
    width: int
    rank: int | None
    penalty: float
    cautions: tuple[Caution, ...]


def solve_ridge(
    gram: torch.Tensor, cross: torch.Tensor, penalty: float, count: int, *, per_feature: bool = False
) -> tuple[torch.Tensor, FitReport]:
    """Return ``(gram + lambda)^-1 cross``, by Cholesky, or of least norm where the matrix is nearly singular.

    Args:
        gram: Sum of x x^T, shape (d, d), float64, positive semidefinite.
        cross: Sum of x y^T, shape (d, k), float64.
        penalty: Lambda over the mean diagonal of ``gram``.
        count: How many rows were summed.
        per_feature: Weight the penalty by each feature's own second moment instead of their mean.

    Returns:
        Shape (d, k), and how it was found.
    """
    width = len(gram)
    few = (Caution.FEW_ROWS,) if count < width else ()
    roots = _weights(gram.diagonal(), per_feature=per_feature).sqrt()[:, None]
    if not bool((roots > 0).all()):  # no feature moves at all
        cautions = (*few, Caution.RANK_DEFICIENT)
        return torch.zeros_like(cross), FitReport(count=count, width=width, rank=0, penalty=penalty, cautions=cautions)
    solution, rank = _solve(gram / (roots * roots.T), cross / roots, penalty)
    lacking = (Caution.RANK_DEFICIENT,) if rank is not None and rank < width else ()
    report = FitReport(count=count, width=width, rank=rank, penalty=penalty, cautions=(*few, *lacking))
    return solution / roots, report


_STILL = 1e-6
_REGULAR = 1e-8  # half of the digits of float64


def _weights(diagonal: torch.Tensor, *, per_feature: bool) -> torch.Tensor:
    """Return what the penalty of each feature is relative to; all 0 where no feature moves."""
    mean = diagonal.mean()
    # A feature that never moves has no second moment of its own to weight its penalty by.
    return diagonal.clamp(min=float(mean) * _STILL) if per_feature else mean.expand_as(diagonal)


def _solve(gram: torch.Tensor, cross: torch.Tensor, penalty: float) -> tuple[torch.Tensor, int | None]:
    """Solve with a matrix of trace d or little more, and say its rank where that had to be found.

    The condition number of the penalised matrix is at most d over the penalty. Where that is small Cholesky is exact
    enough; elsewhere directions in which the rows vary by no more than rounding must be left out.
    """
    if penalty >= _REGULAR * len(gram):
        lower = torch.linalg.cholesky(gram.diagonal_scatter(gram.diagonal() + penalty))
        return torch.cholesky_solve(cross, lower), None
    values, vectors = torch.linalg.eigh(gram)
    kept = values > _cutoff(values)
    basis = vectors[:, kept]
    return basis @ ((basis.T @ cross) / (values[kept] + penalty)[:, None]), int(kept.sum())


def _cutoff(values: torch.Tensor) -> float:
    """Return below which eigenvalue rounding is all there is."""
    largest = float(values.max()) if len(values) else 0.0
    return max(largest, 0.0) * len(values) * torch.finfo(values.dtype).eps


Rows = Callable[[torch.Tensor], torch.Tensor]


def power(gram: torch.Tensor, exponent: float, penalty: float) -> tuple[Rows, Rows]:
    """Return what multiplies a matrix from the left with ``gram^p`` and with ``gram^-p``.

    Args:
        gram: Shape (d, d), float64, positive semidefinite.
        exponent: p, not negative; 0 changes nothing and costs nothing.
        penalty: What is added to the diagonal first, over its mean. Directions that are zero even so stay zero.
    """
    if exponent == 0.0:
        return _same, _same
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0.0) + penalty * float(gram.diagonal().mean())
    kept = values > _cutoff(values)
    basis, roots = vectors[:, kept], values[kept] ** exponent
    return (
        lambda matrix: basis @ (roots[:, None] * (basis.T @ matrix)),
        lambda matrix: basis @ ((basis.T @ matrix) / roots[:, None]),
    )


def _same(matrix: torch.Tensor) -> torch.Tensor:
    return matrix
