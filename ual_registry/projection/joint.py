"""A write map from two sides at once: what modules write, and what a loss asks of it.

Outputs alone leave much of a wide module undetermined: what an MLP's up projection writes spans no more directions than
it reads, a third of its rows or less, and an adapter writes outside of that. Gradients of a loss with respect to the
outputs do span them, and they go the other way: where ``y_t = M y_s``, gradients obey ``g_s = M^T g_t``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.maps import Direction, LinearMap, held_out_r2
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.solve import FitReport

__all__ = ["best_joint", "joint"]


def joint(outputs: PairMoments, gradients: PairMoments, *, penalties: Sequence[float]) -> list[LinearMap]:
    """Fit ``argmin |y_t - M y_s - b|^2 / u + |g_s - M^T g_t|^2 / v + lambda |M|^2`` for several penalties.

    u and v bring both sides to a mean second moment of 1. The solution obeys ``C M + M A + lambda M = D``, a Sylvester
    equation with symmetric C and A, which their eigenvectors solve number by number.

    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 7.6.3, for the equation; gradients for the output
    map as in BiCo (see docs/transfer.md).

    Args:
        outputs: Of pairs (output of the source's module, output of the target's).
        gradients: Of pairs (gradient at the source's output, gradient at the target's), of the same widths.
        penalties: Lambda; not negative.

    Returns:
        A map from source to target for each penalty.

    Raises:
        ShapeError: The widths differ.
        NumericalError: There are no rows, or a penalty is negative.
    """
    widths = [(moments.x_width, moments.y_width) for moments in (outputs, gradients)]
    if widths[0] != widths[1]:
        raise ShapeError(f"gradients of widths {widths[1]}: expected {widths[0]}")
    if not outputs.count or not gradients.count or not all(penalty >= 0 for penalty in penalties):
        raise NumericalError("joint map: expected rows of outputs and of gradients, and penalties from 0")
    written, asked = outputs.centred(), gradients.uncentred()
    write_scale, ask_scale = _mean(written.xx), _mean(asked.yy)
    right_values, right = torch.linalg.eigh(written.xx / write_scale)
    left_values, left = torch.linalg.eigh(asked.yy / ask_scale)
    wanted = left.T @ (written.xy.T / write_scale + asked.xy.T / ask_scale) @ right
    sums = left_values.clamp(min=0)[:, None] + right_values.clamp(min=0)
    found = []
    for penalty in penalties:
        total = sums + penalty
        weights = torch.where(total > _LEAST, 1 / total.clamp(min=_LEAST), torch.zeros_like(total))
        matrix = left @ (wanted * weights) @ right.T
        report = FitReport(count=outputs.count, width=outputs.x_width, rank=None, penalty=float(penalty), cautions=())
        bias = written.y_mean - matrix @ written.x_mean
        found.append(LinearMap(matrix=matrix, bias=bias, report=report))
    return found


_LEAST = 1e-12  # of a mean second moment of 1; below it rounding is all there is


def _mean(gram: torch.Tensor) -> float:
    found = float(gram.diagonal().mean())
    return found if found > 0 else 1.0


def best_joint(
    outputs: tuple[PairMoments, PairMoments],
    gradients: tuple[PairMoments, PairMoments],
    *,
    penalties: Sequence[float],
) -> tuple[LinearMap, float]:
    """Fit joint maps of several penalties and return the one that predicts both sides best, with its R2 of outputs.

    Args:
        outputs: Pairs to fit on, and pairs held out.
        gradients: The same of gradients.
        penalties: As in ``joint``; at least one.

    Raises:
        NumericalError: As in ``joint``, or there is no penalty.
    """
    if not penalties:
        raise NumericalError("penalties: expected at least one")
    best: tuple[float, LinearMap, float] | None = None
    for found in joint(outputs[0], gradients[0], penalties=penalties):
        own = held_out_r2(found, outputs[1], direction=Direction.X_TO_Y)
        back = LinearMap(matrix=found.matrix.T, bias=found.matrix.new_zeros(found.matrix.shape[1]))
        score = own + held_out_r2(back, gradients[1], direction=Direction.Y_TO_X)
        if best is None or score > best[0]:
            best = score, found, own
    assert best is not None  # there is a penalty
    return best[1], best[2]
