"""Factors that came as plain tensors, fitted to other dimensions by the methods that need nothing but shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ual_registry.errors import ShapeError, TransferError
from ual_registry.projection.factors import Factors
from ual_registry.projection.methods import SHAPE_METHODS, project

__all__ = ["project_pair", "project_pairs"]

Pair = tuple[torch.Tensor, torch.Tensor]

_A, _B = "lora_A", "lora_B"


def project_pairs(
    weights: Mapping[str, torch.Tensor], target: int | tuple[int, int], method: str
) -> dict[str, torch.Tensor]:
    """Fit several updates to other dimensions, all of them to the same.

    Args:
        weights: Tensors by name; names of a pair differ in ``lora_A`` and ``lora_B`` alone.
        target: ``(in_features, out_features)``, or one number for both.
        method: A key of ``SHAPE_METHODS``.

    Returns:
        As many tensors under the same names.

    Raises:
        TransferError: There is no such method.
        ShapeError: A tensor is no part of a pair, or shapes do not fit.
    """
    found = dict(weights)
    firsts = [name for name in weights if _A in name]
    others = {name.replace(_A, _B) for name in firsts}
    loose = sorted(set(weights) ^ {*firsts, *others})
    if loose or not firsts:
        raise ShapeError(
            f"expected pairs of tensors whose names hold {_A} and {_B}, got {loose[0] if loose else 'none'}",
            hint="biases and whole modules have no factors to project",
        )
    for name in firsts:
        other = name.replace(_A, _B)
        found[name], found[other] = _projected((weights[name], weights[other]), target, method, name)
    return found


def project_pair(weights: Any, target: int | tuple[int, int], method: str) -> Pair:
    """Fit one update to other dimensions; see ``project_pairs``.

    Args:
        weights: ``lora_A``, shape (rank, in_features), and ``lora_B``, shape (out_features, rank).
        target: ``(in_features, out_features)``, or one number for both.
        method: A key of ``SHAPE_METHODS``.

    Raises:
        TransferError: There is no such method.
        ShapeError: It is no pair, or shapes do not fit.
    """
    if not (isinstance(weights, (tuple, list)) and len(weights) == 2):
        raise ShapeError(f"expected a pair {_A}, {_B} or tensors by name, got a {type(weights).__name__}")
    return _projected((weights[0], weights[1]), target, method, "lora_weights")


def _projected(pair: Pair, target: int | tuple[int, int], method: str, name: str) -> Pair:
    if method not in SHAPE_METHODS:
        raise TransferError(
            f"there is no method {method!r} that needs nothing but shapes (known: {', '.join(SHAPE_METHODS)})",
            context={"method": method},
            hint="the others need both base models: UniversalAdapter.transfer_to_model",
        )
    lora_A, lora_B = pair
    if not (lora_A.ndim == lora_B.ndim == 2 and lora_A.shape[0] == lora_B.shape[1]):
        raise ShapeError(
            f"{name}: {_A} {tuple(lora_A.shape)} and {_B} {tuple(lora_B.shape)} are no factors of one update",
            hint="(rank, in_features) and (out_features, rank) are expected",
        )
    own = Factors(lora_A.detach().double(), lora_B.detach().double())
    width, height = _dimensions(own, target, name)
    made = project(own, method, width, height).factors
    return made.lora_A.to(lora_A.dtype), made.lora_B.to(lora_B.dtype)


def _dimensions(own: Factors, target: int | tuple[int, int], name: str) -> tuple[int, int]:
    if isinstance(target, int):
        if own.in_features != own.out_features:
            raise ShapeError(
                f"{name}: one number for both dimensions, but in_features is {own.in_features} and out_features "
                f"{own.out_features}",
                hint="give (in_features, out_features)",
            )
        target = (target, target)
    if len(target) != 2 or min(target) < 1:
        raise ShapeError(f"expected (in_features, out_features), 1 or more each, got {target!r}")
    return int(target[0]), int(target[1])
