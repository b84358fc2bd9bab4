"""One wanted effect, shared out among several modules: a ridge over the rows of all of them at once.

It decides how much of the effect each module makes, and in which rank. What is wanted, and what a module's rows are,
is left to others. The dual form is solved: the system has as many unknowns as there are rows, however wide and many
the modules are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.factors import Factors

__all__ = ["JointFit", "JointRows", "best_joint_ridge", "joint_r2", "joint_ridge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRows:
    """What several modules read on the same rows, and what is wanted of their sum.

    Attributes:
        features: One matrix per module, shape (n, in_i), any floating dtype.
        wanted: Shape (n, out), any floating dtype.
    """

    features: tuple[torch.Tensor, ...]
    wanted: torch.Tensor

    def __post_init__(self) -> None:
        """Refuse rows that do not belong together.

        Raises:
            ShapeError: There is no module, or the numbers of rows differ.
        """
        shapes = [tuple(item.shape) for item in (*self.features, self.wanted)]
        if not self.features or any(len(shape) != 2 or shape[0] != len(self.wanted) for shape in shapes):
            raise ShapeError(f"features and wanted effect of shapes {shapes}: expected matrices with as many rows")

    def to(self, device: torch.device | str) -> JointRows:
        """Return the same on a device."""
        return JointRows(features=tuple(item.to(device) for item in self.features), wanted=self.wanted.to(device))

    def to_float64(self) -> JointRows:
        """Return the same in float64."""
        features = tuple(item.to(torch.float64) for item in self.features)
        return JointRows(features=features, wanted=self.wanted.to(torch.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFit:
    """Fitted updates.

    Attributes:
        factors: One update per module, float64.
        penalty: The penalty that did best on held-out rows.
        r2: Share of the wanted effect on held-out rows that the updates give, in their rank.
    """

    factors: tuple[Factors, ...]
    penalty: float
    r2: float


def joint_ridge(rows: JointRows, *, penalty: float, rank: int) -> tuple[Factors, ...]:
    """Return ``argmin |sum_i X_i W_i - D|^2 + lambda sum_i |W_i|^2 / s_i``, every W_i then brought down to a rank.

    ``s_i`` brings the rows of every module to the same mean square, and their sum to 1, so that wide modules and large
    rows count no more than others. In the dual ``W_i = s_i X_i^T a`` with ``(K + lambda) a = D`` and
    ``K = sum_i s_i X_i X_i^T``. The rank is cut where it costs least on the rows: with P the leading right singular
    vectors of ``X_i W_i`` it is ``W_i P P^T``.

    Source: Saunders, Gammerman and Vovk, Ridge regression learning algorithm in dual variables, ICML 1998; the rank as
    in ``projection.residual``.

    Args:
        rows: What the modules read, and what is wanted.
        penalty: Lambda, above 0; the mean diagonal of K is 1.
        rank: The largest rank of each update, from 1.

    Returns:
        Float64 factors of ``W_i^T``: lora_A (k, in_i), lora_B (out, k).

    Raises:
        ShapeError: The rank is below 1.
        NumericalError: The penalty is not above 0, there are no rows, or a number is not finite.
    """
    _require(rows, (penalty,), rank)
    own = rows.to_float64()
    kernel, scales = _kernel(own)
    return _updates(own, scales, _dual(kernel, own.wanted, penalty), rank)


def best_joint_ridge(fit: JointRows, held_out: JointRows, *, penalties: Sequence[float], rank: int) -> JointFit:
    """Fit with the penalty whose full-rank solution predicts held-out rows best; see ``joint_ridge``.

    Args:
        fit: Rows to fit on.
        held_out: Rows to choose and to judge on; the same modules.
        penalties: To choose from; at least one.
        rank: As in ``joint_ridge``.

    Raises:
        ShapeError: As in ``joint_ridge``, or the modules differ.
        NumericalError: As in ``joint_ridge``, or there is no penalty.
    """
    widths = [[item.shape[1] for item in (*rows.features, rows.wanted)] for rows in (fit, held_out)]
    if widths[0] != widths[1]:
        raise ShapeError(f"held-out rows of widths {widths[1]}: expected {widths[0]}")
    _require(fit, penalties, rank)
    own, other = fit.to_float64(), held_out.to_float64()
    kernel, scales = _kernel(own)
    pairs = zip(scales, other.features, own.features, strict=True)
    across = sum((scale * (x @ y.T) for scale, x, y in pairs), torch.zeros(len(other.wanted), len(kernel)).to(kernel))
    duals = {penalty: _dual(kernel, own.wanted, penalty) for penalty in penalties}
    best = max(penalties, key=lambda penalty: _r2(across @ duals[penalty], other.wanted))
    factors = _updates(own, scales, duals[best], rank)
    return JointFit(factors=factors, penalty=best, r2=joint_r2(factors, other))


def joint_r2(factors: Sequence[Factors], rows: JointRows) -> float:
    """Return which share of a wanted effect updates give together: ``1 - |sum_i X_i W_i - D|^2 / |D|^2``.

    Args:
        factors: One update per module, any floating dtype.
        rows: What the modules read, and what is wanted.

    Returns:
        At most 1; below 0 where no update at all comes closer. 0 where nothing is wanted.
    """
    own = rows.to_float64()
    given = torch.zeros_like(own.wanted)
    for x, item in zip(own.features, map(Factors.to_float64, factors), strict=True):
        given = given + (x @ item.lora_A.T) @ item.lora_B.T
    return _r2(given, own.wanted)


def _r2(given: torch.Tensor, wanted: torch.Tensor) -> float:
    energy = float(wanted.square().sum())
    return 1.0 - float((given - wanted).square().sum()) / energy if energy > 0 else 0.0


def _kernel(rows: JointRows) -> tuple[torch.Tensor, list[float]]:
    """Return the sum of the modules' kernels, of mean diagonal 1, and by what each is multiplied."""
    count, modules = len(rows.wanted), len(rows.features)
    energies = [float(x.square().sum()) for x in rows.features]
    scales = [count / energy / modules if energy > 0 else 0.0 for energy in energies]
    kernel = rows.wanted.new_zeros(count, count)
    for scale, x in zip(scales, rows.features, strict=True):
        kernel.addmm_(x, x.T, alpha=scale)
    return kernel, scales


def _dual(kernel: torch.Tensor, wanted: torch.Tensor, penalty: float) -> torch.Tensor:
    shifted = kernel.clone()
    shifted.diagonal().add_(penalty)
    return torch.cholesky_solve(wanted, torch.linalg.cholesky(shifted))


def _updates(rows: JointRows, scales: Sequence[float], dual: torch.Tensor, rank: int) -> tuple[Factors, ...]:
    found = []
    for scale, x in zip(scales, rows.features, strict=True):
        solution = scale * (x.T @ dual)
        effect = x @ solution
        _, vectors = torch.linalg.eigh(effect.T @ effect)
        leading = vectors[:, -min(rank, *solution.shape) :].flip(1)
        found.append(Factors((solution @ leading).T.contiguous(), leading.contiguous()))
    return tuple(found)


def _require(rows: JointRows, penalties: Sequence[float], rank: int) -> None:
    if rank < 1:
        raise ShapeError(f"rank {rank}: expected at least 1")
    if not penalties or not all(0.0 < penalty < float("inf") for penalty in penalties):
        raise NumericalError(f"penalties {tuple(penalties)}: expected at least one number above 0")
    if not len(rows.wanted):
        raise NumericalError("joint ridge of no rows: expected at least one row")
    if not all(bool(item.isfinite().all()) for item in (*rows.features, rows.wanted)):
        raise NumericalError("rows or the wanted effect hold a number that is not finite")
