"""Regression of a wanted effect on rows, in a rank: the factors of one module that come closest to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.moments import Moments
from ual_registry.projection.recompress import recompress
from ual_registry.projection.solve import FitReport, solve_ridge

__all__ = ["EffectFit", "effect_r2", "fit_effect", "reduced_rank_ridge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFit:
    """Fitted factors.

    Attributes:
        factors: The update, float64, balanced.
        r2: Share of the wanted effect that it gives on the rows it was fitted on.
        report: How it was fitted.
    """

    factors: Factors
    r2: float
    report: FitReport


def reduced_rank_ridge(
    xx: torch.Tensor, xd: torch.Tensor, penalty: float, rank: int, *, per_feature: bool = False
) -> Factors:
    """Return ``argmin |X W - D|^2 + lambda |W|^2`` over all W of a rank, as factors of ``W^T``.

    The ridge solution without a bound on the rank is ``W = (X^T X + lambda)^-1 X^T D``; with P the leading eigenvectors
    of ``D^T X W``, that of the rank is ``W P P^T``.

    Source: Mukherjee and Zhu, Reduced rank ridge regression and its kernel extensions, 2011, section 2; as a rung of
    transfer, docs/transfer.md (the wanted effect on the residual stream, regressed on the inputs of one module).

    Args:
        xx: Sum of x x^T over rows, shape (in, in), any floating dtype.
        xd: Sum of x d^T, shape (in, out), any floating dtype.
        penalty: Lambda over the mean diagonal of ``xx``; not negative.
        rank: The largest rank of the result, from 1.
        per_feature: As in ``maps.ridge``.

    Returns:
        Float64 factors, balanced: lora_A (k, in), lora_B (out, k), k = min(rank, in, out).

    Raises:
        ShapeError: The shapes do not fit, or the rank is below 1.
        NumericalError: A number is not finite, or the penalty is negative.
    """
    return _reduced(xx, xd, penalty, rank, len(xx), per_feature=per_feature)[0]


def fit_effect(moments: Moments, *, penalty: float, rank: int, per_feature: bool = False) -> EffectFit:
    """Fit the update of a rank whose effect on rows comes closest to a wanted one; see ``reduced_rank_ridge``.

    Args:
        moments: Of (input row of the module, wanted change of its output).
        penalty: As in ``reduced_rank_ridge``.
        rank: As in ``reduced_rank_ridge``.
        per_feature: As in ``reduced_rank_ridge``.

    Raises:
        ShapeError: The rank is below 1.
        NumericalError: There are no rows, or the penalty is negative.
    """
    if moments.count < 1:
        raise NumericalError("moments of no rows: expected at least one row")
    factors, report = _reduced(moments.xx, moments.xd, penalty, rank, moments.count, per_feature=per_feature)
    return EffectFit(factors=factors, r2=effect_r2(factors, moments), report=report)


def effect_r2(factors: Factors, moments: Moments) -> float:
    """Return which share of a wanted effect an update gives: ``1 - |X delta^T - D|^2 / |D|^2``.

    Args:
        factors: The update, shape (out, in), any floating dtype.
        moments: Of (input row, wanted change of the output).

    Returns:
        At most 1; below 0 where no update at all comes closer. 0 where nothing is wanted.

    Raises:
        ShapeError: Update and moments do not fit.
    """
    if (factors.in_features, factors.out_features) != tuple(moments.xd.shape):
        raise ShapeError(
            f"update of shape {(factors.out_features, factors.in_features)}: expected {tuple(moments.xd.shape)[::-1]}"
        )
    if moments.energy == 0.0:
        return 0.0
    own = factors.to_float64()
    matched = (own.lora_A @ moments.xd * own.lora_B.T).sum()
    size = (own.lora_A @ moments.xx @ own.lora_A.T * (own.lora_B.T @ own.lora_B)).sum()
    return float(2 * matched - size) / moments.energy


def _reduced(
    xx: torch.Tensor, xd: torch.Tensor, penalty: float, rank: int, count: int, *, per_feature: bool
) -> tuple[Factors, FitReport]:
    _require(xx, xd, penalty, rank)
    xx, xd = xx.to(torch.float64), xd.to(torch.float64)
    solution, report = solve_ridge(xx, xd, penalty, count, per_feature=per_feature)
    explained = xd.T @ solution
    _, vectors = torch.linalg.eigh((explained + explained.T) / 2)
    leading = vectors[:, -min(rank, *xd.shape) :].flip(1)
    return recompress(Factors((solution @ leading).T, leading), rank), report


def _require(xx: torch.Tensor, xd: torch.Tensor, penalty: float, rank: int) -> None:
    if xx.ndim != 2 or xd.ndim != 2 or xx.shape != (len(xd), len(xd)):
        raise ShapeError(f"xx of shape {tuple(xx.shape)}, xd of shape {tuple(xd.shape)}: expected (in, in), (in, out)")
    if rank < 1:
        raise ShapeError(f"rank {rank}: expected at least 1")
    if not 0.0 <= penalty < float("inf"):
        raise NumericalError(f"penalty {penalty}: expected a number from 0")
    if not bool(xx.isfinite().all() & xd.isfinite().all()):
        raise NumericalError("second moments hold a number that is not finite")
