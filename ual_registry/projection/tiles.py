"""Products of factors in float64 without a copy of them in it, by the C extension ``_tiles`` (ADR-0024).

Every function gives ``None`` where the extension cannot serve: it was not built, the processor lacks the instructions,
or the factor lies on another device. Whoever asked then does the same with torch.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import torch

__all__ = ["grams", "mixed", "resampled"]

_compiled: Any = None
with contextlib.suppress(ImportError):  # without a compiler it was not built; not every processor can
    _compiled = importlib.import_module("ual_registry.projection._tiles")


def grams(factor: torch.Tensor, axis: int, head: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the inner products of the first features of a factor, and those of all.

    Args:
        factor: Two axes, any floating dtype.
        axis: That of the features.
        head: How many are the first, from 1.

    Returns:
        Two matrices of shape (rank, rank), float64.
    """
    own = _taken(factor)
    if own is None:
        return None
    rank, width = own.shape[1 - axis], own.shape[axis]
    found = torch.empty(2, rank, rank, dtype=torch.float64)
    _compiled.grams(_bytes(own), _is_double(own), axis, rank, width, head, _bytes(found))
    return found[0], found[1]


def mixed(factor: torch.Tensor, axis: int, matrix: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Return other sums of the features of a factor, with zeros behind them, rounded once.

    Args:
        factor: Two axes, any floating dtype.
        axis: That of the features.
        matrix: Shape (rank, new rank), float64: every feature, a row of ``rank`` numbers, is multiplied by it.
        width: How many features the result has, at least those of the factor.
        dtype: The dtype of the result.
    """
    own = _taken(factor)
    if own is None:
        return None
    rank, head = own.shape[1 - axis], own.shape[axis]
    columns = matrix.shape[1]
    kind = dtype if dtype is torch.float32 else torch.float64
    made = torch.empty((columns, width) if axis == 1 else (width, columns), dtype=kind)
    by = _bytes(matrix.contiguous())
    _compiled.mixed(
        _bytes(own), _is_double(own), axis, rank, head, head, by, columns, _bytes(made), _is_double(made), width
    )
    return made.to(dtype)


def resampled(factor: torch.Tensor, axis: int, width: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Sample the features of a factor anew, there and back, linearly, with half-pixel centres.

    Args:
        factor: Two axes, any floating dtype.
        axis: That of the features.
        width: Their new number.

    Returns:
        The features sampled anew, and the inner products of the factor's own, of these, of those that come back, and
        of its own with those that come back: shape (4, rank, rank). All are float64.
    """
    own = _taken(factor)
    if own is None:
        return None
    rank, length = own.shape[1 - axis], own.shape[axis]
    made = torch.empty((rank, width) if axis == 1 else (width, rank), dtype=torch.float64)
    found = torch.empty(4, rank, rank, dtype=torch.float64)
    _compiled.resampled(_bytes(own), _is_double(own), axis, rank, length, _bytes(made), width, _bytes(found))
    return made, found


def _taken(factor: torch.Tensor) -> torch.Tensor | None:
    """Return a factor as the extension reads it, the same numbers in as few bytes as it can."""
    if _compiled is None or factor.device.type != "cpu" or 0 in factor.shape:
        return None
    held = factor.detach()
    return (held if held.dtype in {torch.float32, torch.float64} else held.float()).contiguous()


def _is_double(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.float64


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.view(-1).view(torch.uint8).numpy()
