"""What a projection method is: its name, what it needs besides the update, its function, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar

import torch

from ual_registry.projection.contexts import PredictionContext, ResidualContext
from ual_registry.projection.effect_rows import RowsFit
from ual_registry.projection.factors import Factors
from ual_registry.projection.joint_ridge import JointFit
from ual_registry.projection.sides import Carried, Carry, scaled

__all__ = ["Context", "ContextMethod", "EffectMethod", "Given", "Method", "Needs", "PredictionMethod"]


class Needs(StrEnum):
    """What a method needs besides the adapter."""

    SHAPES = "shapes"
    """The shapes of the target: two configs."""
    WEIGHTS = "weights"
    """The weights of both base models."""
    ACTIVATIONS = "activations"
    """The same text through both base models."""
    RESIDUAL = "residual"
    """The same text through both base models, with the adapter and with what is fitted so far."""
    PREDICTIONS = "predictions"
    """What both base models predict on the same text, with the adapter and with what is fitted so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One named algorithm that needs shapes alone.

    Attributes:
        name: What users type.
        fit: (factors, in_features, out_features) to new factors.
        carry: How it carries one factor, with the matrices that everything is measured by.
        number: By what it multiplies the update that has both factors carried.
        reference: Where it comes from.
        summary: One line for people.
        join: (what was carried, a number, a dtype) to the factors of that many times the update, rounded to it.
        needs: Shapes.
    """

    name: str
    fit: Callable[[Factors, int, int], Factors]
    carry: Carry
    number: Callable[[Carried], float]
    reference: str
    summary: str
    join: Callable[[Carried, float, torch.dtype], Factors] = scaled
    needs: Needs = Needs.SHAPES


class Context(Protocol):
    """What a method is given, and what its way back is given."""

    def reversed(self) -> Self:
        """Return what the way back is given."""
        ...


Given = TypeVar("Given", bound=Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextMethod(Generic[Given]):
    """One named algorithm that fits an update with the help of a context.

    Attributes:
        name: What users type.
        needs: What the context is made from.
        fit: (factors, context) to new factors; with the reversed context it is the way back.
        reference: Where it comes from.
        summary: One line for people.
    """

    name: str
    needs: Needs
    fit: Callable[[Factors, Given], Factors]
    reference: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectMethod:
    """One named algorithm that fits new factors to the effect of a whole adapter.

    Attributes:
        name: What users type.
        needs: What the context is made from.
        fit: Context to new factors, and how they were chosen.
        reference: Where it comes from.
        summary: One line for people.
    """

    name: str
    needs: Needs
    fit: Callable[[ResidualContext], RowsFit]
    reference: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionMethod:
    """One named algorithm that fits several modules at once to what a whole adapter does to predictions.

    Attributes:
        name: What users type.
        needs: What the context is made from.
        fit: Context to new factors, one update per module.
        reference: Where it comes from.
        summary: One line for people.
    """

    name: str
    needs: Needs
    fit: Callable[[PredictionContext], JointFit]
    reference: str
    summary: str
