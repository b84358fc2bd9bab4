"""A wanted change of what reaches the stream from a module, row by row: the update that makes it.

It decides the penalty, on held-out rows, and what a norm behind the module makes of an update: it takes the length of
a row out again, so that the change it lets through is no linear function of the update. The rank is cut by
``residual``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.moments import Moments
from ual_registry.projection.residual import reduced_rank_ridge

__all__ = ["EffectRows", "RowsFit", "best_effect", "rows_r2"]

_ROUNDS = 12
_SHORTEST_STEP = 1 / 8
_LEAST_GAIN = 1e-4
"""Of the objective; a round that brings less is the last."""
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRows:
    """What a module reads, and the change that is wanted of what reaches the stream from it.

    Attributes:
        features: What it reads, over the size of what it writes where a norm stands behind it, shape (n, in).
        wanted: Shape (n, out).
        written: What an RMS norm behind it gives without an update, shape (n, out); ``None`` where none stands there.
        gain: By what that norm multiplies each feature, shape (out,).
    """

    features: torch.Tensor
    wanted: torch.Tensor
    written: torch.Tensor | None = None
    gain: torch.Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse rows that do not belong together.

        Raises:
            ShapeError: The numbers of rows or of features differ, or a norm is half described.
        """
        shapes = [tuple(item.shape) for item in (self.features, self.wanted)]
        norm = [None if item is None else tuple(item.shape) for item in (self.written, self.gain)]
        if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
            raise ShapeError(f"features and wanted of shapes {shapes}: expected matrices with as many rows")
        if norm not in ([None, None], [shapes[1], shapes[1][1:]]):
            raise ShapeError(f"written and gain of shapes {norm}: expected {[shapes[1], shapes[1][1:]]}")

    def at(self, index: torch.Tensor) -> EffectRows:
        """Return some of the rows."""
        written = None if self.written is None else self.written[index]
        return EffectRows(features=self.features[index], wanted=self.wanted[index], written=written, gain=self.gain)

    def to(self, device: torch.device | str) -> EffectRows:
        """Return the same rows on a device."""
        norm = [None if item is None else item.to(device) for item in (self.written, self.gain)]
        features, wanted = self.features.to(device), self.wanted.to(device)
        return EffectRows(features=features, wanted=wanted, written=norm[0], gain=norm[1])

    def made(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the change that reaches the stream where an update adds rows of shape (n, out) before any norm."""
        if self.written is None:
            return raw
        moved = self.written.double() + raw
        return moved / self._sizes(moved) - self.written.double()

    def pulled(self, raw: torch.Tensor) -> torch.Tensor:
        """Return what still lacks with an update, turned into the direction in which its rows should move."""
        lacking = self.wanted.double() - self.made(raw)
        if self.written is None or self.gain is None:
            return lacking
        moved = self.written.double() + raw
        size = self._sizes(moved)
        along = (moved * lacking).mean(1, keepdim=True) / size.square()
        return (lacking - along * moved / self.gain.double().square()) / size

    def _sizes(self, moved: torch.Tensor) -> torch.Tensor:
        assert self.gain is not None  # it comes with what is written
        return (moved / self.gain.double()).square().mean(1, keepdim=True).sqrt().clamp(min=_ROUNDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsFit:
    """A fitted update.

    Attributes:
        factors: The update, float64; before any norm it makes rows of ``features`` times ``factors``.
        penalty: The penalty that did best on held-out rows.
        r2: Share of the wanted change on held-out rows that it makes, in its rank.
    """

    factors: Factors
    penalty: float
    r2: float


def best_effect(fit: EffectRows, held_out: EffectRows, *, penalties: Sequence[float], rank: int) -> RowsFit:
    """Fit the update of a rank that makes a wanted change, with the penalty that predicts held-out rows best.

    Without a norm behind the module it is ridge regression, ``W = (X^T X + lambda)^-1 X^T D``. With one it starts there
    and goes down the gradient of the same objective with the norm in it, preconditioned by the same matrix.

    Args:
        fit: Rows to fit on.
        held_out: Rows to choose and to judge on.
        penalties: As in ``residual.reduced_rank_ridge``, above 0; at least one.
        rank: As in ``residual.reduced_rank_ridge``.

    Raises:
        ShapeError: The rank is below 1, or the widths differ.
        NumericalError: There is no penalty or one is not above 0, there are no rows, or a number is not finite.
    """
    _require(fit, held_out, penalties)
    moments = Moments(fit.features.shape[1], fit.wanted.shape[1], device=fit.features.device)
    moments.update(fit.features, fit.wanted)
    if moments.rejected:
        raise NumericalError(f"{moments.rejected} rows of features or wanted changes hold a number that is not finite")
    ridges = [_Ridge.of(moments.xx, penalty) for penalty in penalties]
    scores = [_r2(held_out, held_out.features.double() @ ridge.solve(moments.xd)) for ridge in ridges]
    best = scores.index(max(scores))
    solution = ridges[best].solve(moments.xd)
    if fit.written is not None:
        solution = _descended(fit, ridges[best], solution)
    cross = ridges[best].gram @ solution + ridges[best].shift * solution
    factors = reduced_rank_ridge(ridges[best].gram, cross, penalties[best], rank)
    return RowsFit(factors=factors, penalty=penalties[best], r2=rows_r2(factors, held_out))


def rows_r2(factors: Factors, rows: EffectRows) -> float:
    """Return which share of a wanted change an update makes, through the norm behind it if there is one.

    Args:
        factors: The update, any floating dtype.
        rows: What is wanted of it.

    Returns:
        At most 1; below 0 where no update at all comes closer. 0 where nothing is wanted.
    """
    own = factors.to_float64()
    return _r2(rows, (rows.features.double() @ own.lora_A.T) @ own.lora_B.T)


def _r2(rows: EffectRows, raw: torch.Tensor) -> float:
    wanted = rows.wanted.double()
    energy = float(wanted.square().sum())
    return 1.0 - float((rows.made(raw) - wanted).square().sum()) / energy if energy > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Ridge:
    """A penalised matrix of second moments, factored.

    Attributes:
        gram: Shape (in, in), float64.
        shift: What is added to its diagonal.
        lower: Its Cholesky factor.
    """

    gram: torch.Tensor
    shift: float
    lower: torch.Tensor

    @classmethod
    def of(cls, gram: torch.Tensor, penalty: float) -> _Ridge:
        mean = float(gram.diagonal().mean())
        shift = penalty * mean if mean > 0 else 1.0
        # Rounding may leave eigenvalues of that size below 0.
        safe = max(shift, _ROUNDING * len(gram) * mean)
        return cls(gram, shift, torch.linalg.cholesky(gram.diagonal_scatter(gram.diagonal() + safe)))

    def solve(self, cross: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_solve(cross, self.lower)


def _descended(rows: EffectRows, ridge: _Ridge, solution: torch.Tensor) -> torch.Tensor:
    """Go down the objective with the norm in it, from a solution without it."""
    x = rows.features.double()
    raw = x @ solution
    value = _objective(rows, raw, solution, ridge.shift)
    for _ in range(_ROUNDS):
        step = ridge.solve(x.T @ rows.pulled(raw) - ridge.shift * solution)
        moved, before, length = x @ step, value, 1.0
        while length >= _SHORTEST_STEP:
            tried = _objective(rows, raw + length * moved, solution + length * step, ridge.shift)
            if tried < value:
                raw, solution, value = raw + length * moved, solution + length * step, tried
                break
            length /= 2
        if value > before * (1 - _LEAST_GAIN):
            break
    return solution


def _objective(rows: EffectRows, raw: torch.Tensor, solution: torch.Tensor, shift: float) -> float:
    lacking = rows.made(raw) - rows.wanted.double()
    return float(lacking.square().sum() + shift * solution.square().sum())


def _require(fit: EffectRows, held_out: EffectRows, penalties: Sequence[float]) -> None:
    widths = [(rows.features.shape[1], rows.wanted.shape[1]) for rows in (fit, held_out)]
    if widths[0] != widths[1] or (fit.written is None) != (held_out.written is None):
        raise ShapeError(f"held-out rows of widths {widths[1]}: expected {widths[0]}")
    if not penalties or not all(0.0 < penalty < float("inf") for penalty in penalties):
        raise NumericalError(f"penalties {tuple(penalties)}: expected at least one number above 0")
    if not len(fit.features):
        raise NumericalError("a regression of no rows: expected at least one row")
