"""Stored moments, checked before they are believed: names, shapes, and that every number is finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ual_registry.errors import NumericalError, ShapeError

__all__ = ["checked_state", "stored_width"]


def stored_width(state: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the length of the last axis of a stored tensor.

    Raises:
        ShapeError: There is no such tensor, or it has no axis.
    """
    if name not in state or not state[name].ndim:
        raise ShapeError(f"stored moments: missing {name}")
    return state[name].shape[-1]


def checked_state(state: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return copies of stored tensors, float64, on their device.

    Args:
        state: The tensors by name.
        wanted: The names that must be there, no others, with their shapes.

    Raises:
        ShapeError: Names or shapes are others.
        NumericalError: A number is not finite.
    """
    if state.keys() != wanted.keys():
        raise ShapeError(f"stored moments: expected {', '.join(wanted)}, got {', '.join(sorted(state))}")
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ShapeError(f"stored moments: {name}: expected shape {shape}, got {tuple(state[name].shape)}")
        if not bool(state[name].isfinite().all()):
            raise NumericalError(f"stored moments: {name} holds a number that is not finite")
    return {name: state[name].to(torch.float64, copy=True) for name in wanted}
