"""The two maps of one module, fitted and judged: what reads through them, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ual_registry.errors import TransferError
from ual_registry.projection.aligned import Norm, fit_aligned
from ual_registry.projection.contexts import MapKind
from ual_registry.projection.factors import Factors, norm
from ual_registry.projection.joint import best_joint
from ual_registry.projection.maps import Direction, LinearMap, best_ridge, held_out_r2, procrustes, read_directions
from ual_registry.transfers.collect import CollectOptions
from ual_registry.transfers.layers import LayerPolicy, LayerRule
from ual_registry.transfers.statistics_store import PairStatistics

__all__ = ["ActivationOptions", "ModuleFit", "WriteKind", "fit_module"]


class WriteKind(StrEnum):
    """What the write map is fitted to."""

    OUTPUTS = "outputs"
    """What both modules write."""
    JOINT = "joint"
    """That, and the gradients of the text's loss; for bases that predict the next token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationOptions:
    """How maps are fitted and judged.

    Attributes:
        kind: Which map; a joint write map is a ridge whichever it is.
        write: What the write map is fitted to.
        penalties: Of ridge, over the mean diagonal; the one that predicts held-out text best is taken, per module.
        whitening: Of Procrustes, from 0 to 0.5.
        gate: The least held-out R2 of what the adapter reads; modules below are left out.
        norm: How long to make the updates.
        text: How text is read.
        layer_map: By what the layers of both models are paired; ``proportional`` leaves the plan as it is.
        policy: What becomes of source layers without a target layer; ``pick`` leaves the plan as it is.
        any_base: Whether to take base models that are not those of the adapter and the plan.
    """

    kind: MapKind = MapKind.RIDGE
    write: WriteKind = WriteKind.OUTPUTS
    penalties: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.03, 0.1)
    whitening: float = 0.0
    gate: float = 0.3
    norm: Norm = Norm.FUNCTIONAL
    text: CollectOptions = field(default_factory=CollectOptions)
    layer_map: LayerRule = LayerRule.PROPORTIONAL
    policy: LayerPolicy = LayerPolicy.PICK
    any_base: bool = False

    def __post_init__(self) -> None:
        """Refuse names and numbers that mean nothing.

        Raises:
            TransferError: There is no such map, write map, norm, layer map or policy, or no penalty.
        """
        words = {"kind": MapKind, "write": WriteKind, "norm": Norm, "layer_map": LayerRule, "policy": LayerPolicy}
        for name, known in words.items():
            if getattr(self, name) not in list(known):
                raise TransferError(
                    f"{name} {str(getattr(self, name))!r}: expected one of {', '.join(known)}", code="bad-option"
                )
        if not self.penalties or not all(0 <= penalty < float("inf") for penalty in self.penalties):
            raise TransferError("penalties: expected at least one number from 0", code="bad-option")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFit:
    """An update carried to a module of the target.

    Attributes:
        factors: The update, float64.
        measures: ``read_r2`` and ``write_r2`` on held-out text, and the penalties of the maps.
    """

    factors: Factors
    measures: Mapping[str, float]


def fit_module(
    own: Factors,
    inputs: PairStatistics,
    outputs: PairStatistics,
    gradients: PairStatistics | None,
    options: ActivationOptions,
) -> ModuleFit | str:
    """Carry one update to a module of the target.

    Args:
        own: The update, shape (out_s, in_s).
        inputs: Of pairs (input of the source's module, input of the target's).
        outputs: Of pairs (output of the source's module, output of the target's).
        gradients: The same of gradients at the outputs; for a joint write map.
        options: How maps are fitted and judged.

    Returns:
        The update, or why it is left out.
    """
    read, read_r2 = _read_map(own, inputs, options)
    if not read_r2 >= options.gate:
        return f"what it reads is not predictable there: held-out R2 {read_r2:.2f}, under {options.gate:g}"
    if not float(outputs.fit.centred().yy.trace()) > 0:
        return "what the target's module writes does not vary"
    write, write_r2 = _write_map(outputs, gradients, options)
    factors = fit_aligned(own, read, write, norm=options.norm, inputs=inputs.held_out, outputs=outputs.held_out)
    if not norm(factors) > 0:
        return "its maps leave nothing of the update"
    return ModuleFit(factors=factors, measures={"read_r2": read_r2, "write_r2": write_r2, **_penalties(read, write)})


def _read_map(own: Factors, inputs: PairStatistics, options: ActivationOptions) -> tuple[LinearMap, float]:
    """Fit the read map and judge it on what the adapter reads."""
    seen = read_directions(own)
    if options.kind == MapKind.RIDGE:
        return best_ridge(
            inputs.fit, inputs.held_out, penalties=options.penalties, direction=Direction.Y_TO_X, directions=seen
        )
    found = procrustes(inputs.fit, direction=Direction.Y_TO_X, whitening=options.whitening)
    return found, held_out_r2(found, inputs.held_out, seen, direction=Direction.Y_TO_X)


def _write_map(
    outputs: PairStatistics, gradients: PairStatistics | None, options: ActivationOptions
) -> tuple[LinearMap, float]:
    if gradients is not None:
        return best_joint(
            (outputs.fit, outputs.held_out), (gradients.fit, gradients.held_out), penalties=options.penalties
        )
    if options.kind == MapKind.RIDGE:
        return best_ridge(outputs.fit, outputs.held_out, penalties=options.penalties, direction=Direction.X_TO_Y)
    found = procrustes(outputs.fit, direction=Direction.X_TO_Y, whitening=options.whitening)
    return found, held_out_r2(found, outputs.held_out, direction=Direction.X_TO_Y)


def _penalties(read: LinearMap, write: LinearMap) -> dict[str, float]:
    named = (("read_penalty", read.report), ("write_penalty", write.report))
    return {name: report.penalty for name, report in named if report is not None}
