"""Projection through fitted maps: the update reads through one and writes through the other."""

from __future__ import annotations

import math
from enum import StrEnum

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.difference import core_norm
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import LinearMap
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.recompress import recompress

__all__ = ["Norm", "fit_aligned"]


class Norm(StrEnum):
    """How long the result is made."""

    KEEP = "keep"
    """As the maps leave it."""
    RESTORE = "restore"
    """As long as the source's update, in the Frobenius norm."""
    FUNCTIONAL = "functional"
    """By the one number with which its effect on the rows comes closest to the mapped effect of the source's."""
    EFFECT = "effect"
    """As strong on the rows: the same share of the module's own output as in the source, root mean square."""


def fit_aligned(
    factors: Factors,
    read: LinearMap,
    write: LinearMap,
    *,
    norm: Norm | str = Norm.RESTORE,
    inputs: PairMoments | None = None,
    outputs: PairMoments | None = None,
) -> Factors:
    """Carry an update through a map of what it reads and a map of what it writes: ``B' A' = M_write B A M_read``.

    With the write map given, this is the least-squares match of the two updates' effects where the read map is a ridge
    fit. The biases of the maps have no place in factors and are left out.

    Source: Theseus (arXiv 2602.12952), ``delta_t = T_out^T delta_s T_in``, with any linear maps.

    Args:
        factors: The update, shape (out_s, in_s), any floating dtype.
        read: From inputs of the target's module to those of the source's, matrix (in_s, in_t).
        write: From outputs of the source's module to those of the target's, matrix (out_t, out_s).
        norm: How long to make the result.
        inputs: Of pairs (source input, target input), best held out; for ``functional`` and ``effect``.
        outputs: Of pairs (source output, target output); for ``effect``.

    Returns:
        Float64 factors, balanced, shape (out_t, in_t), of rank min(rank, out_t, in_t).

    Raises:
        ShapeError: Update, maps and moments do not fit one another.
        NumericalError: There is no such norm, or it needs moments that are absent or empty.
    """
    _require_fit(factors, read, write)
    if norm not in list(Norm):
        raise NumericalError(f"norm {str(norm)!r}: expected one of {', '.join(Norm)}")
    own = factors.to_float64()
    carried = Factors(own.lora_A @ read.matrix, write.matrix @ own.lora_B)
    number = _length(own, carried, Norm(norm), inputs, outputs)
    return recompress(carried.scaled(number), own.rank)


def _require_fit(factors: Factors, read: LinearMap, write: LinearMap) -> None:
    shape = (factors.out_features, factors.in_features)
    if (write.matrix.shape[1], read.matrix.shape[0]) != shape:
        raise ShapeError(
            f"update of shape {shape}: the maps take updates of shape {(write.matrix.shape[1], read.matrix.shape[0])}"
        )


def _length(
    own: Factors, carried: Factors, norm: Norm, inputs: PairMoments | None, outputs: PairMoments | None
) -> float:
    """Return the number to multiply the carried update with; 1 where it is zero."""
    if norm is Norm.KEEP:
        return 1.0
    if norm is Norm.RESTORE:
        return _ratio(core_norm(own), core_norm(carried))
    seen = _require_moments("inputs", inputs, norm, own.in_features, carried.in_features)
    if norm is Norm.FUNCTIONAL:
        return _best_number(own, carried, seen)
    written = _require_moments("outputs", outputs, norm, own.out_features, carried.out_features)
    source, target = seen.uncentred(), written.uncentred()
    wanted = _ratio(_effect(own, source.xx), float(target.xx.trace()))
    got = _ratio(_effect(carried, source.yy), float(target.yy.trace()))
    return math.sqrt(_ratio(wanted, got))


def _best_number(own: Factors, carried: Factors, inputs: PairMoments) -> float:
    """Return the number that brings the carried effect closest to the mapped effect of the source.

    Both are written by the same columns: ``B' A x_s`` is wanted and ``B' A' x_t`` is there.
    """
    moments = inputs.uncentred()
    written = carried.lora_B.T @ carried.lora_B
    there = (carried.lora_A @ moments.yy @ carried.lora_A.T * written).sum()
    matched = (own.lora_A @ moments.xy @ carried.lora_A.T * written).sum()
    return _ratio(float(matched), float(there))


def _effect(factors: Factors, gram: torch.Tensor) -> float:
    """Return the sum over rows of ``|delta x|^2``."""
    return float((factors.lora_A @ gram @ factors.lora_A.T * (factors.lora_B.T @ factors.lora_B)).sum())


def _ratio(wanted: float, got: float) -> float:
    return wanted / got if got > 0 else 1.0


def _require_moments(name: str, moments: PairMoments | None, norm: Norm, x_width: int, y_width: int) -> PairMoments:
    if moments is None or moments.count < 1:
        raise NumericalError(f"norm {str(norm)!r}: expected {name}, moments of at least one pair of rows")
    if (moments.x_width, moments.y_width) != (x_width, y_width):
        raise ShapeError(f"{name} of widths {(moments.x_width, moments.y_width)}: expected {(x_width, y_width)}")
    return moments
