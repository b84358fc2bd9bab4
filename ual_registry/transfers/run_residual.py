"""Carrying an adapter over by what it does to the residual stream, layer by layer, without training.

It decides the order: the adapter's effect behind each layer of its own base, what the target's stream should become,
and the update of one module per layer that makes it so, each fitted with the ones before it in place, so that what one
falls short of the next can make good. Roles of the adapter play no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.binders.slots import TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import NoCounterpartError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.contexts import ResidualContext
from ual_registry.projection.effect_rows import EffectRows, RowsFit
from ual_registry.projection.factors import Factors, effective_rank, norm, singular_factors
from ual_registry.projection.methods import RESIDUAL
from ual_registry.transfers.bases import base_materials, check_bases
from ual_registry.transfers.blocks import BlockWalk, block_paths, updated
from ual_registry.transfers.effect_material import EffectMaterial, ResidualOptions, WantedStream, wanted_stream
from ual_registry.transfers.final_state import NormShape, find_norms_behind
from ual_registry.transfers.layers import layer_map
from ual_registry.transfers.plan import Action, TransferPlan, slot_label
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.result import Fitted, TransferResult, make_result
from ual_registry.transfers.sites import Side, Site
from ual_registry.transfers.streams import WRITERS, Point, Stream
from ual_registry.transfers.tasks import stays_as_it_is, unchanged_result
from ual_registry.transfers.text_scripts import script_warnings
from ual_registry.transfers.whole_adapter import WHOLE, updated_modules, whole_move

__all__ = ["METHOD", "run_residual"]

METHOD = "residual"

_REASON = "fitted to what the whole adapter does to the residual stream"
_PROBED_TOKENS = 32
_LEAST_REACHED = 0.2


def run_residual(
    adapter: Adapter,
    plan: TransferPlan,
    source: LoadedBase,
    target: LoadedBase,
    texts: Iterable[str],
    *,
    source_digest: Digest,
    options: ResidualOptions | None = None,
) -> TransferResult:
    """Fit an adapter of the target that changes its residual stream as an adapter changes that of the source.

    Text of the kind that the adapter answers, with its answers, is what tells most. Where the target is the source,
    nothing has to be fitted and every planned entry is kept as it is.

    Args:
        adapter: The source.
        plan: Made from its manifest; says the target and which layers correspond.
        source: The base model of the adapter.
        target: The base model to go to.
        texts: Unlabelled text.
        source_digest: Digest of the source's file; the result's lineage points to it.
        options: How the effect is carried, and where updates go.

    Raises:
        TransferError: The adapter has no effect or cannot be attached, a base model has no tokenizer, its blocks form
            no chain, or the text does not do.
        BaseMismatchError: A base model is not the one of the adapter or of the plan.
        NoCounterpartError: The target has no module of the role in the layers, or no stream passes the gate.
        NumericalError: A factor or an activation is not finite.
    """
    chosen = options or ResidualOptions()
    plan, energies = check_bases(adapter, plan, source, target, any_base=chosen.any_base)
    if stays_as_it_is(plan, source, target):
        return unchanged_result(adapter, plan, energies, method=METHOD, source_digest=source_digest)
    texts, modules = list(texts), _modules(target, chosen)
    points = {point: _source_points(plan, source, target, point, chosen) for point in modules}
    run = _Run(
        adapter=adapter,
        plan=plan,
        source=source,
        target=target,
        modules=modules,
        points=points,
        options=chosen,
        size=math.sqrt(sum(energies.values())),
        material=EffectMaterial.read(adapter, source, target, texts, points=points, options=chosen),
        remarks=tuple(script_warnings((source, target), texts)),
    )
    return run.result(source_digest)


def _modules(target: LoadedBase, options: ResidualOptions) -> dict[Point, TargetModule]:
    """Return the modules that get an update, by where they write, in the order in which they do."""
    found = {
        Point(layer, role): module
        for role in options.roles
        for layer, module in updated_modules(target, role, options.layers).items()
    }
    return {point: found[point] for point in sorted(found)}  # roles sort as they write


def _source_points(
    plan: TransferPlan, source: LoadedBase, target: LoadedBase, point: Point, options: ResidualOptions
) -> list[Point]:
    """Return where the source's stream is compared with the target's at a point: the corresponding place first."""
    depth = source.base.stacks[0].num_layers
    # A plan for the whole adapter maps no layers.
    layers = next(iter(plan.layers.values()), None) or layer_map(depth, len(block_paths(target)))
    order = [Point(layer, role) for layer in range(depth) for role in WRITERS if role in options.roles]
    place = order.index(Point(layers[point.layer], point.role))
    near = range(max(place - options.reach, 0), min(place + options.reach + 1, len(order)))
    return sorted((order[i] for i in near), key=lambda found: abs(order.index(found) - place))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerFit:
    """What was fitted in one layer.

    Attributes:
        module: The module.
        factors: Its update, before any norm behind it.
        measures: What was measured on held-out text.
        reached: Share of the wanted change of the stream behind the layer that is there, on held-out text.
    """

    module: TargetModule
    factors: Factors
    measures: Mapping[str, float]
    reached: float


@dataclass(slots=True, kw_only=True)
class _Run:
    """One transfer: what it is given, and what is fitted so far."""

    adapter: Adapter
    plan: TransferPlan
    source: LoadedBase
    target: LoadedBase
    modules: Mapping[Point, TargetModule]
    points: Mapping[Point, Sequence[Point]]
    options: ResidualOptions
    size: float
    material: EffectMaterial
    remarks: tuple[str, ...]
    fits: list[_LayerFit] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def result(self, source_digest: Digest) -> TransferResult:
        """Fit layer by layer, and store."""
        texts = [(text.target_ids, text.target_positions) for text in self.material.texts]
        walk = BlockWalk(self.target, texts)
        paths = [module.path for module in self.modules.values()]
        norms = find_norms_behind(self.target, paths, texts[0][0][:_PROBED_TOKENS])
        stream = Stream.of(self.target, self.modules, texts[0][0])
        for layer in range(max(point.layer for point in self.modules) + 1):
            updates: dict[str, Factors] = {}
            for point in (point for point in self.modules if point.layer == layer):
                with updated(self.target, updates):
                    updates |= self._fit_point(walk, point, stream, norms)
            with updated(self.target, updates):
                walk.advance()
        if not self.fits:
            reasons = "; ".join(dict.fromkeys(self.left_out.values()))
            raise NoCounterpartError(
                f"nothing of the adapter's effect can be carried to {self.plan.target.id}: {reasons}",
                context={"source": self.source.base.id, "target": self.target.base.id},
            )
        return make_result(self.adapter, list(self._fitted()), self._report(), source_digest=source_digest)

    def _fit_point(
        self, walk: BlockWalk, point: Point, stream: Stream, norms: Mapping[str, NormShape]
    ) -> dict[str, Factors]:
        """Fit the update of one module, and return it by the module's path; nothing where it is left out."""
        module = self.modules[point]
        wanted = wanted_stream(self.material, self.points[point], point, self.options)
        if not wanted.r2 >= self.options.gate:
            reason = f"its stream is not predictable from the source's: held-out R2 {wanted.r2:.2f}, under "
            self.left_out[slot_label(module.slots[0])] = f"{reason}{self.options.gate:g}"
            return {}
        inputs, outputs = Site(module.path, Side.INPUT), Site(module.path, Side.OUTPUT)
        read = walk.rows({inputs, outputs, *stream.sites(point)})
        behind = norms.get(module.path)
        rows = _rows(read[inputs], read[outputs], wanted.rows - stream.rows(point, read), behind)
        held_out = self.material.is_held_out
        found = RESIDUAL.fit(
            ResidualContext(
                fit=rows.at(~held_out).to(self.material.device),
                held_out=rows.at(held_out).to(self.material.device),
                rank=self.options.rank,
                penalties=self.options.penalties,
            )
        )
        factors = found.factors.to("cpu")
        if behind is not None:
            factors = Factors(factors.lora_A, factors.lora_B / behind.gain[:, None])
        with updated(self.target, {module.path: factors}):
            after = stream.rows(point, walk.rows(stream.sites(point)))
        self.fits.append(self._measured(module, factors, wanted, found, after))
        return {module.path: factors}

    def _measured(
        self, module: TargetModule, factors: Factors, wanted: WantedStream, found: RowsFit, after: torch.Tensor
    ) -> _LayerFit:
        held_out = self.material.is_held_out
        energy = float(wanted.change[held_out].double().square().sum())
        lacking = float((wanted.rows - after)[held_out].double().square().sum())
        reached = 1.0 - lacking / energy if energy > 0 else 0.0
        measures = {
            "source_layer": float(wanted.source.layer),
            "stream_r2": wanted.r2,
            "stream_penalty": wanted.penalty,
            "update_r2": found.r2,
            "update_penalty": found.penalty,
            "stream_reached": reached,
        }
        return _LayerFit(module=module, factors=factors, measures=measures, reached=reached)

    def _fitted(self) -> Iterator[Fitted]:
        dtype = self.adapter.tensors[self.adapter.entries[0].lora_B].dtype
        for fit in self.fits:
            slot = fit.module.slots[0]
            report = EntryReport(
                source=WHOLE,
                target=slot_label(slot),
                action=str(Action.PROJECTED),
                energy_kept=_share(fit.reached),
                norm_ratio=norm(fit.factors) / self.size,
                effective_rank=effective_rank(singular_factors(fit.factors).values),
                measures=fit.measures,
            )
            yield Fitted(module=fit.module, slot=slot, factors=fit.factors, dtype=dtype, report=report)

    def _report(self) -> TransferReport:
        return TransferReport(
            plan=replace(self.plan, moves=tuple(whole_move(fit.module, _REASON) for fit in self.fits)),
            method=METHOD,
            entries=tuple(item.report for item in self._fitted()),
            energy_share=_share(self.fits[-1].reached),
            settings=self._settings(),
            materials=base_materials(self.source, self.target, self.material.text),
            left_out=self.left_out,
            warnings=(*self.remarks, *self._warnings()),
        )

    def _settings(self) -> dict[str, Any]:
        options, held_out = self.options, int(self.material.is_held_out.sum())
        return {
            "roles": list(options.roles),
            "target_layers": sorted({point.layer for point in self.modules}),
            "rank": options.rank,
            "penalties": list(options.penalties),
            "map_penalties": list(options.map_penalties),
            "reach": options.reach,
            "gate": options.gate,
            "positions": len(self.material.is_held_out) - held_out,
            "held_out_positions": held_out,
            "skipped_tokens": options.text.skip,
            "seed": options.seed,
        }

    def _warnings(self) -> Iterator[str]:
        count = int((~self.material.is_held_out).sum())
        widest = max(module.slots[0].in_features for module in self.modules.values())
        if count < widest:
            yield (
                f"{count} aligned positions for updates that read up to {widest} features: in some directions the "
                "penalty alone decides; give more text"
            )
        reached = self.fits[-1].reached
        if reached < _LEAST_REACHED:
            yield (
                f"{_share(reached):.0%} of the wanted change of the stream is reached on held-out text; "
                "do not expect an effect"
            )


def _rows(read: torch.Tensor, given: torch.Tensor, lacking: torch.Tensor, behind: NormShape | None) -> EffectRows:
    """Return what a module reads, and what is wanted of it, in the terms of the stream."""
    if behind is None:
        return EffectRows(features=read, wanted=lacking)
    size = behind.size(given).to(read)
    written = behind.scaled(given).to(lacking)
    return EffectRows(features=read / size, wanted=lacking, written=written, gain=behind.gain)


def _share(reached: float) -> float:
    return min(max(reached, 0.0), 1.0)
