"""The projection methods in one explicit table, and what is measured of every projection.

A method fits one update to another shape. What it loses is measured the same way for all: the result is carried back
to the source's shape by the method's own way back, and compared with the source. Methods differ in what they need
besides the update; those that need more than shapes are given it in a context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ual_registry.errors import NumericalError
from ual_registry.projection.aligned import fit_aligned
from ual_registry.projection.contexts import (
    ActivationContext,
    MapContext,
    MapKind,
    PredictionContext,
    ResidualContext,
    WeightContext,
)
from ual_registry.projection.copying import copy_within_lineage
from ual_registry.projection.effect_rows import RowsFit, best_effect
from ual_registry.projection.factors import Factors, effective_rank, inner, norm, singular_values
from ual_registry.projection.interpolate import interpolate, norm_ratio, resampled_side
from ual_registry.projection.joint_ridge import JointFit, best_joint_ridge
from ual_registry.projection.maps import Direction, LinearMap, procrustes, ridge
from ual_registry.projection.method_kinds import ContextMethod, EffectMethod, Given, Method, Needs, PredictionMethod
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.sides import Carried, carried_whole
from ual_registry.projection.subspace import subspace
from ual_registry.projection.svd import balanced, svd, width_scale
from ual_registry.projection.truncate import cut_side, padded, truncate

__all__ = [
    "ACTIVATIONS",
    "COPY",
    "METHODS",
    "PREDICTIONS",
    "RESIDUAL",
    "SHAPE_METHODS",
    "SUBSPACE",
    "VOCAB",
    "Projection",
    "SizedProjection",
    "project",
    "project_with",
]


def _copy(factors: Factors, context: WeightContext) -> Factors:
    return copy_within_lineage(factors, context.source_weight, context.target_weight)


def _subspace(factors: Factors, context: WeightContext) -> Factors:
    return subspace(factors, context.source_weight, context.target_weight, context.k)


def _vocab(factors: Factors, context: MapContext) -> Factors:
    return fit_aligned(factors, context.read, context.write, norm=context.norm)


def _activations(factors: Factors, context: ActivationContext) -> Factors:
    read = _fitted_map(context.inputs, context, Direction.Y_TO_X)
    write = _fitted_map(context.outputs, context, Direction.X_TO_Y)
    return fit_aligned(factors, read, write, norm=context.norm, inputs=context.inputs, outputs=context.outputs)


def _fitted_map(moments: PairMoments, context: ActivationContext, direction: Direction) -> LinearMap:
    if context.kind is MapKind.PROCRUSTES:
        return procrustes(moments, direction=direction, whitening=context.whitening, centred=context.centred)
    return ridge(
        moments,
        penalty=context.penalty,
        direction=direction,
        centred=context.centred,
        per_feature=context.per_feature,
    )


def _residual(context: ResidualContext) -> RowsFit:
    return best_effect(context.fit, context.held_out, penalties=context.penalties, rank=context.rank)


def _predictions(context: PredictionContext) -> JointFit:
    return best_joint_ridge(context.fit, context.held_out, penalties=context.penalties, rank=context.rank)


def _width_scale(carried: Carried) -> float:
    return width_scale(carried.source, carried.in_features, carried.out_features)


SHAPE_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="svd",
            fit=svd,
            carry=cut_side,
            number=_width_scale,
            join=balanced,
            reference="ual-adapter 0.1, 'SVD projection'",
            summary="cut or pad the singular vectors, scale for the width (control-grade)",
        ),
        Method(
            name="truncate",
            fit=truncate,
            carry=cut_side,
            number=lambda _: 1.0,
            join=padded,
            reference="ual-adapter 0.1, 'truncate projection'",
            summary="cut or pad features (control-grade)",
        ),
        Method(
            name="interpolate",
            fit=interpolate,
            carry=resampled_side,
            number=norm_ratio,
            reference="ual-adapter 0.1, 'interpolate projection', norm restored",
            summary="resample features linearly, norm restored (control-grade)",
        ),
    )
}
"""The methods that need two configs and nothing more, by name."""

COPY: ContextMethod[WeightContext] = ContextMethod(
    name="copy",
    needs=Needs.WEIGHTS,
    fit=_copy,
    reference="PortLLM, ICLR 2025 (arXiv 2410.10870)",
    summary="copy unchanged, where shapes are equal and the base weights are of one lineage",
)

SUBSPACE: ContextMethod[WeightContext] = ContextMethod(
    name="subspace",
    needs=Needs.WEIGHTS,
    fit=_subspace,
    reference="Cross-LoRA (arXiv 2508.05232), read as factors, signs fixed",
    summary="pair the leading singular vectors of both base weights by rank",
)

VOCAB: ContextMethod[MapContext] = ContextMethod(
    name="vocab",
    needs=Needs.WEIGHTS,
    fit=_vocab,
    reference="LoRASuite, NeurIPS 2025 (arXiv 2505.13515), with separate read and write maps",
    summary="align both base models on the tokens they share",
)

ACTIVATIONS: ContextMethod[ActivationContext] = ContextMethod(
    name="activations",
    needs=Needs.ACTIVATIONS,
    fit=_activations,
    reference="Theseus, ICML 2026 (arXiv 2602.12952); ridge in place of its orthogonal maps",
    summary="align every module's inputs and outputs on the same text",
)

RESIDUAL = EffectMethod(
    name="residual",
    needs=Needs.RESIDUAL,
    fit=_residual,
    reference="reduced-rank ridge (Mukherjee and Zhu, 2011) of the effect on the residual stream; docs/transfer.md",
    summary="fit what the whole adapter does to the residual stream, layer by layer",
)

PREDICTIONS = PredictionMethod(
    name="predictions",
    needs=Needs.PREDICTIONS,
    fit=_predictions,
    reference="proxy-tuning, COLM 2024 (arXiv 2401.08565), fitted into weights by ridge; docs/transfer.md",
    summary="fit what the whole adapter does to predictions, in a few late modules",
)

METHODS: dict[
    str,
    Method
    | ContextMethod[WeightContext]
    | ContextMethod[MapContext]
    | ContextMethod[ActivationContext]
    | EffectMethod
    | PredictionMethod,
] = {
    **SHAPE_METHODS,
    COPY.name: COPY,
    SUBSPACE.name: SUBSPACE,
    VOCAB.name: VOCAB,
    ACTIVATIONS.name: ACTIVATIONS,
    RESIDUAL.name: RESIDUAL,
    PREDICTIONS.name: PREDICTIONS,
}
"""Every method by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A fitted update and what became of the source's.

    Attributes:
        factors: The result.
        energy_kept: Share (0..1) of the source's squared norm that lies along what comes back from the result, whatever
            its length: the squared cosine between the source and the lifted result.
        norm_ratio: Frobenius norm of the result over that of the source.
        effective_rank: Effective rank of the result.
    """

    factors: Factors
    energy_kept: float
    norm_ratio: float
    effective_rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedProjection(Projection):
    """A projection of an update whose size was not known before.

    Attributes:
        size: Frobenius norm of the source.
    """

    size: float


def project(
    factors: Factors,
    method: str,
    in_features: int,
    out_features: int,
    *,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> SizedProjection:
    """Fit a number times an update to another shape and measure what is left of it.

    Args:
        factors: The update, any floating dtype.
        method: A key of ``SHAPE_METHODS``.
        in_features: Columns of the result.
        out_features: Rows of the result.
        scale: The number, such as a scaling that is not folded in yet.
        dtype: What the result will be stored in, so that it can be rounded on the way; ``float32`` or ``float64``.

    Returns:
        The result and its measures, all of them 0 for the zero update. A factor keeps its dtype where its numbers are
        those of the source; it may be the source's own tensor then. Any other is computed in float64, and of that
        dtype or rounded once to ``dtype``.

    Raises:
        NumericalError: The norm of the update is not finite in float64.
    """
    chosen = SHAPE_METHODS[method]
    carried = carried_whole(factors, chosen.carry, in_features, out_features)
    size = abs(scale) * carried.size
    if not math.isfinite(size * size):
        raise NumericalError("its norm does not fit float64")
    number, values = chosen.number(carried), carried.values()
    ratio = float(values.norm()) / carried.size if size > 0 else 0.0
    cosine = carried.cosine() if size > 0 else 0.0
    return SizedProjection(
        factors=chosen.join(carried, number * scale, dtype),
        energy_kept=min((ratio if cosine is None else cosine) ** 2, 1.0),
        norm_ratio=number * ratio,
        effective_rank=effective_rank(values) if size > 0 else 0.0,
        size=size,
    )


def project_with(factors: Factors, method: ContextMethod[Given], context: Given) -> Projection:
    """Fit an update with the help of a context and measure what is left of it.

    Args:
        factors: The update, scaling folded in; any floating dtype.
        method: The method.
        context: What it needs, for the module that the update leaves and the one that it enters.

    Returns:
        The result, in float64 unless it is a copy, and its measures; all of them 0 for the zero update.

    Raises:
        TransferError: As the method says.
    """
    fitted = method.fit(factors, context)
    return _measured(factors, fitted, method.fit(fitted, context.reversed()), norm(factors))


def _measured(source: Factors, fitted: Factors, lifted: Factors, before: float) -> Projection:
    back = norm(lifted)
    values = singular_values(fitted).to(torch.float64)
    cosine = inner(source, lifted) / (before * back) if before > 0 and back > 0 else 0.0
    return Projection(
        factors=fitted,
        energy_kept=min(cosine**2, 1.0),
        norm_ratio=float(values.norm()) / before if before > 0 else 0.0,
        effective_rank=effective_rank(values),
    )
