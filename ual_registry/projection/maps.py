"""Linear maps between two spaces, fitted to paired rows by what is known of their second moments.

The read map of a target module takes its input to what the source's module would read; the write map takes the
source's output to the target's. Ridge fits a general matrix, Procrustes one that only turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.moments import PairMoments, SecondMoments
from ual_registry.projection.solve import Caution, FitReport, power, solve_ridge

__all__ = ["Direction", "LinearMap", "best_ridge", "held_out_r2", "identity", "procrustes", "read_directions", "ridge"]


class Direction(StrEnum):
    """From which side of the pairs to which."""

    X_TO_Y = "x-to-y"
    """From source to target: a write map."""
    Y_TO_X = "y-to-x"
    """From target to source: a read map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearMap:
    """The map ``to = matrix @ from + bias`` of columns.

    Attributes:
        matrix: Shape (d_to, d_from), float64.
        bias: Shape (d_to,), float64; zeros where the fit was not centred.
        report: How it was fitted; ``None`` where it was not.
    """

    matrix: torch.Tensor
    bias: torch.Tensor
    report: FitReport | None = None

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Map rows of shape (n, d_from), any floating dtype, to float64 rows of shape (n, d_to)."""
        return rows.to(torch.float64) @ self.matrix.T + self.bias


def identity(width: int) -> LinearMap:
    """Return the map of a space onto itself."""
    return LinearMap(matrix=torch.eye(width, dtype=torch.float64), bias=torch.zeros(width, dtype=torch.float64))


def ridge(
    moments: PairMoments,
    *,
    penalty: float,
    direction: Direction | str,
    centred: bool = True,
    per_feature: bool = False,
) -> LinearMap:
    """Fit ``argmin sum |to - M from - b|^2 + lambda |M|^2``.

    A penalty of 0 gives the solution of least norm, the limit of small penalties.

    Source: Hoerl and Kennard, Ridge regression, Technometrics 1970, equation 2.1; on activations of two models,
    Theseus (arXiv 2602.12952), with the general matrix in place of its orthogonal one.

    Args:
        moments: Of pairs (source row, target row).
        penalty: Lambda over the mean diagonal of the second moments of ``from``; not negative.
        direction: Which side is mapped to which.
        centred: Whether the means are taken out and go into the bias. Factors have no bias, so a map that is fitted
            uncentred keeps within the matrix what it can.
        per_feature: Weight the penalty of a feature by its own second moment, as if all had been brought to one
            variance; so that a few massive features do not silence the others.

    Raises:
        NumericalError: There are no rows, or the penalty is negative or not finite.
    """
    sides = _sides(moments, direction, centred)
    _require_penalty(penalty)
    solution, report = solve_ridge(sides.xx, sides.xy, penalty, sides.count, per_feature=per_feature)
    return _through_means(solution.T, sides, report)


def best_ridge(
    moments: PairMoments,
    held_out: PairMoments,
    *,
    penalties: Sequence[float],
    direction: Direction | str,
    directions: torch.Tensor | None = None,
    centred: bool = True,
    per_feature: bool = False,
) -> tuple[LinearMap, float]:
    """Fit ridge maps of several penalties and return the one that predicts best, with its held-out R2.

    Args:
        moments: Pairs to fit on.
        held_out: Other pairs to choose on.
        penalties: As in ``ridge``; at least one. Of equals the first wins.
        direction: As in ``ridge``.
        directions: As in ``held_out_r2``.
        centred: As in ``ridge``.
        per_feature: As in ``ridge``.

    Raises:
        NumericalError: As in ``ridge``, or there is no penalty.
    """
    if not penalties:
        raise NumericalError("penalties: expected at least one")
    best: tuple[LinearMap, float] | None = None
    for penalty in penalties:
        found = ridge(moments, penalty=penalty, direction=direction, centred=centred, per_feature=per_feature)
        score = held_out_r2(found, held_out, directions, direction=direction)
        if best is None or score > best[1]:
            best = found, score
    assert best is not None  # there is a penalty
    return best


def procrustes(
    moments: PairMoments,
    *,
    direction: Direction | str,
    whitening: float = 0.0,
    centred: bool = True,
    scaled: bool = False,
    penalty: float = 1e-2,
) -> LinearMap:
    """Fit the partial isometry that turns one side onto the other: ``U V^T`` of their cross moments ``C = U S V^T``.

    It is ``U min(S / t, 1) V^T``, with t 1.2e-4 (a thousand eps of float32) of the largest singular value: what
    maximises ``<C, T> - t/2 |T|^2`` among the maps that stretch nothing. Directions from t on are turned in full; those
    that the pairs leave undetermined get next to nothing, where ``U V^T`` would turn them wherever rounding points, as
    it does with the direction that a layer norm takes out of what a module reads. As the projection of C / t onto a
    convex set the map moves by no more than that does: ``|T' - T| <= |C' / t' - C / t|`` in the Frobenius norm.
    So features a hundred times as large as all others (t is of squares) begin to cost those; whitening is for that.

    With whitening p both sides are first multiplied with the power -p of their second moments, so that features which
    move a lot count for less, and the map is taken back to the original spaces: ``G_to^p U V^T G_from^-p``.
    At p = 0.5 the directions paired are those of canonical correlation.

    Source: Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966; for adapters
    of language models, Theseus (arXiv 2602.12952), ``delta_t = T_out^T delta_s T_in``.

    Args:
        moments: Of pairs (source row, target row).
        direction: Which side is mapped to which.
        whitening: p, from 0 to 0.5.
        centred: As in ``ridge``.
        scaled: Whether to multiply with the number that fits best in the whitened spaces.
        penalty: What is added to the second moments before a power is taken of them, over their mean diagonal. It
            bounds how far whitening stretches directions that hardly move, and so what it makes of rounding.

    Raises:
        NumericalError: There are no rows, p leaves its range, or the penalty is negative or not finite.
    """
    if not 0.0 <= whitening <= 0.5:
        raise NumericalError(f"whitening {whitening}: expected a number from 0 to 0.5")
    _require_penalty(penalty)
    sides = _sides(moments, direction, centred)
    to_power, to_inverse = power(sides.yy, whitening, penalty)
    _, from_inverse = power(sides.xx, whitening, penalty)
    cross = from_inverse(to_inverse(sides.xy.T).T).T
    left, values, right = torch.linalg.svd(cross, full_matrices=False)
    shares = _shares(values)
    turn = left * shares @ right
    if scaled:
        whitened = from_inverse(from_inverse(sides.xx).T)
        size = (turn @ whitened * turn).sum()
        turn = turn * ((shares * values).sum() / size if size > 0 else 0.0)
    report = _procrustes_report(sides, shares, penalty if whitening else 0.0)
    return _through_means(from_inverse(to_power(turn).T).T, sides, report)


def held_out_r2(
    fitted: LinearMap,
    moments: PairMoments,
    directions: torch.Tensor | None = None,
    *,
    direction: Direction | str,
) -> float:
    """Return which share of the variance a map predicts: ``1 - |(to - M from - b) D^T|^2 / |to_c D^T|^2``.

    Source: the quality gate of activation alignment; docs/transfer.md.

    Args:
        fitted: The map.
        moments: Pairs that it was not fitted on.
        directions: D, the directions of the ``to`` side that matter, shape (k, d_to), any floating dtype; all where
            absent. For a read map they are what the adapter reads: ``read_directions``.
        direction: Which side the map takes to which.

    Returns:
        At most 1; below 0 where the mean predicts better. 0 where the rows do not vary along the directions.

    Raises:
        ShapeError: Map, moments and directions do not fit one another.
        NumericalError: There are no rows.
    """
    sides = _sides(moments, direction, centred=True)
    if fitted.matrix.shape != sides.xy.T.shape:
        raise ShapeError(f"map of shape {tuple(fitted.matrix.shape)}: expected {tuple(sides.xy.T.shape)}")
    shift = sides.y_mean - fitted.apply(sides.x_mean)
    if directions is None:  # products with an identity would cost as much as all others together
        through, spread = fitted.matrix, sides.yy.diagonal().sum()
        crossed = (fitted.matrix * sides.xy.T).sum()
    else:
        seen = _directions(directions, sides.yy)
        through, shift = seen @ fitted.matrix, seen @ shift
        spread = (seen @ sides.yy * seen).sum()
        crossed = (through @ sides.xy * seen).sum()
    left = spread - 2 * crossed + (through @ sides.xx * through).sum() + sides.count * shift.square().sum()
    return float(1 - left / spread) if spread > 0 else 0.0


def _directions(directions: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    if directions.ndim != 2 or directions.shape[1] != len(spread):
        raise ShapeError(f"directions of shape {tuple(directions.shape)}: expected (k, {len(spread)})")
    return directions.to(spread)


def read_directions(factors: Factors) -> torch.Tensor:
    """Return what an adapter reads, each direction as long as what it writes of it.

    With ``B = Q R`` it is ``R A``: of all (k, in) matrices D with ``D^T D = delta^T delta`` one that is cheap. So
    ``|x D^T|`` is the length of the adapter's effect on x, whichever factors express the update.

    Args:
        factors: The update, any floating dtype.

    Returns:
        Shape (min(out, rank), in), float64.
    """
    own = factors.to_float64()
    core: torch.Tensor = torch.linalg.qr(own.lora_B, mode="r").R
    return core @ own.lora_A


def _sides(moments: PairMoments, direction: Direction | str, centred: bool) -> SecondMoments:
    """Return the moments with the ``from`` side as x."""
    if direction not in list(Direction):
        raise NumericalError(f"direction {str(direction)!r}: expected one of {', '.join(Direction)}")
    if moments.count < 1:
        raise NumericalError("moments of no rows: expected at least one pair of rows")
    found = moments.centred() if centred else moments.uncentred()
    return found if Direction(direction) is Direction.X_TO_Y else found.swapped()


def _require_penalty(penalty: float) -> None:
    if not 0.0 <= penalty < float("inf"):
        raise NumericalError(f"penalty {penalty}: expected a number from 0")


def _through_means(matrix: torch.Tensor, sides: SecondMoments, report: FitReport) -> LinearMap:
    return LinearMap(matrix=matrix, bias=sides.y_mean - matrix @ sides.x_mean, report=report)


_DETERMINED = 1e3 * torch.finfo(torch.float32).eps
"""The singular value of cross moments, over the largest, from which a direction is turned in full.

Activations are computed in float32. Attention in another order moved cross moments by one or two eps of their largest
singular value. That need not shrink with the number of rows: rounding is much the same wherever the same token stands.
A thousand eps let it move the map by about a thousandth.
"""


def _shares(values: torch.Tensor) -> torch.Tensor:
    """Return how much of each singular direction is turned, from 0 to 1."""
    least = float(values.max()) * _DETERMINED if len(values) else 0.0
    return (values / least).clamp(max=1.0) if least > 0 else torch.zeros_like(values)


def _procrustes_report(sides: SecondMoments, shares: torch.Tensor, penalty: float) -> FitReport:
    """Describe a fit: which directions of the smaller side the pairs determine."""
    width, rank = len(shares), int((shares == 1.0).sum())
    cautions = (Caution.FEW_ROWS,) if sides.count < max(sides.xy.shape) else ()
    if rank < width:
        cautions = (*cautions, Caution.RANK_DEFICIENT)
    return FitReport(count=sides.count, width=width, rank=rank, penalty=penalty, cautions=cautions)
