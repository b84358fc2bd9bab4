"""Carrying an adapter over by what it does to next-token predictions, without training.

It decides the order: what the adapter changes in its own base's predictions, what the target would have to predict to
be changed alike, and updates of a few late modules that make it so, in sweeps. Layers and roles of the adapter play no
part, so that nothing of it has to have a counterpart. How rows are chosen and fitted is left to ``prediction_fit``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.binders.slots import TargetModule
from ual_registry.digest import Digest
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.factors import Factors, effective_rank, norm, singular_factors
from ual_registry.projection.recompress import recompress, stack
from ual_registry.projection.token_change import divergence
from ual_registry.transfers.bases import base_materials, check_bases
from ual_registry.transfers.final_state import NormShape, find_norms_behind
from ual_registry.transfers.plan import Action, TransferPlan, slot_label
from ual_registry.transfers.prediction_fit import (
    PredictionOptions,
    Readings,
    Sweep,
    fit_sweep,
    read_target,
)
from ual_registry.transfers.prediction_material import Material
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.requirements import is_same_model
from ual_registry.transfers.result import Fitted, TransferResult, make_result
from ual_registry.transfers.tasks import stays_as_it_is, unchanged_result
from ual_registry.transfers.text_scripts import script_warnings
from ual_registry.transfers.wanted_predictions import token_logs, wanted_predictions
from ual_registry.transfers.whole_adapter import WHOLE, modules_of_role, updated_modules, whole_move

__all__ = ["METHOD", "run_predictions"]

METHOD = "predictions"

_REASON = "fitted to what the whole adapter does to predictions"
_PROBED_TOKENS = 32
_LEAST_COVERED = 0.5
_LEAST_REACHED = 0.2


def run_predictions(
    adapter: Adapter,
    plan: TransferPlan,
    source: LoadedBase,
    target: LoadedBase,
    texts: Iterable[str],
    *,
    source_digest: Digest,
    options: PredictionOptions | None = None,
) -> TransferResult:
    """Fit an adapter of the target that changes its predictions as an adapter changes those of the source.

    Text of the kind that the adapter answers, with its answers, is what tells most: an answer that never stands in the
    text is never predicted in it. Where the target is the source, every planned entry is kept as it is.

    Args:
        adapter: The source.
        plan: Made from its manifest; says the target; its moves are used only where that is the source.
        source: The base model of the adapter.
        target: The base model to go to.
        texts: Unlabelled text.
        source_digest: Digest of the source's file; the result's lineage points to it.
        options: How updates are fitted, and where they go.

    Raises:
        TransferError: The adapter has no effect or cannot be attached, a base model has no tokenizer or no last norm,
            no token is shared, or the text does not do.
        BaseMismatchError: A base model is not the one of the adapter or of the plan.
        NoCounterpartError: The target has no module of the role in the layers.
        NumericalError: A factor or an activation is not finite.
    """
    chosen = options or PredictionOptions()
    plan, energies = check_bases(adapter, plan, source, target, any_base=chosen.any_base)
    if stays_as_it_is(plan, source, target):
        return unchanged_result(adapter, plan, energies, method=METHOD, source_digest=source_digest)
    texts, modules = list(texts), _modules(target, chosen)
    material = Material.read(adapter, source, target, texts, chosen)
    first = material.texts[int(material.rows.passages[0])].target_ids[:_PROBED_TOKENS]
    run = _Run(
        adapter=adapter,
        plan=replace(plan, moves=tuple(whole_move(module, _REASON) for module in modules)),
        material=material,
        modules=modules,
        norms=find_norms_behind(target, [module.path for module in modules], first),
        options=chosen,
        size=math.sqrt(sum(energies.values())),
        source_digest=source_digest,
        remarks=tuple(script_warnings((source, target), texts)),
    )
    return run.result()


def _modules(target: LoadedBase, options: PredictionOptions) -> list[TargetModule]:
    """Return the modules that get an update, in the order of their layers."""
    found: list[tuple[int, TargetModule]] = []
    for role in options.roles:
        known = list(modules_of_role(target, role))
        layers = known[-math.ceil(len(known) / 3) :] if options.layers is None else options.layers
        found += updated_modules(target, role, layers).items()
    return [module for _, module in sorted(found, key=lambda item: item[0])]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One transfer: what it is given, and what is fitted so far.

    Attributes:
        adapter: The source.
        plan: With a move for every module.
        material: What is fitted to.
        modules: What gets an update.
        norms: The norms behind modules, by their paths.
        options: How updates are fitted.
        size: The norm of all of the adapter's updates together.
        source_digest: Digest of the source's file.
        remarks: What to know of the text before the result is trusted.
        sweeps: What was fitted.
    """

    adapter: Adapter
    plan: TransferPlan
    material: Material
    modules: Sequence[TargetModule]
    norms: Mapping[str, NormShape]
    options: PredictionOptions
    size: float
    source_digest: Digest
    remarks: tuple[str, ...]
    sweeps: list[Sweep] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The module paths."""
        return [module.path for module in self.modules]

    def result(self) -> TransferResult:
        """Fit sweep by sweep, measure what is reached, and store."""
        material, options, found = self.material, self.options, self._read(None)
        final, is_held_out = material.final, material.is_held_out
        wanted = wanted_predictions(
            found.states,
            material.rows,
            material.groups,
            final,
            count=options.tokens,
            teacher_weight=options.teacher_weight,
        )
        logs, lacking = wanted.logs, math.inf
        for _ in range(options.sweeps):
            self.sweeps.append(fit_sweep(found, logs, wanted, is_held_out=is_held_out, final=final, options=options))
            found = self._read(self._stored(math.nan).adapter)
            logs = token_logs(found.states, wanted.tokens, final)
            now = float(divergence(wanted.chances[is_held_out], logs[is_held_out]).mean())
            if now >= lacking:  # held-out text says that it did harm, and the next one would start from there
                self.sweeps.pop()
                break
            lacking = now
        return self._stored(lacking)

    def _read(self, fitted: Adapter | None) -> Readings:
        material = self.material
        with contextlib.nullcontext() if fitted is None else attach(material.target.model, fitted):
            return read_target(
                material.reader,
                material.texts,
                material.rows,
                final=material.final,
                norms_behind=self.norms,
                paths=self.paths,
            )

    def _stored(self, lacking: float) -> TransferResult:
        fitted = list(self._fitted(lacking))
        reports = tuple(item.report for item in fitted)
        report = TransferReport(
            plan=self.plan,
            method=METHOD,
            entries=reports,
            energy_share=reports[0].energy_kept,
            settings=self._settings(),
            materials=base_materials(self.material.source, self.material.target, self.material.text),
            warnings=(*self.remarks, *self._warnings(lacking)),
        )
        return make_result(self.adapter, fitted, report, source_digest=self.source_digest)

    def _fitted(self, lacking: float) -> Iterator[Fitted]:
        dtype = self.adapter.tensors[self.adapter.entries[0].lora_B].dtype
        for index, module in enumerate(self.modules):
            factors = self._update(index, module.path)
            report = EntryReport(
                source=WHOLE,
                target=slot_label(module.slots[0]),
                action=str(Action.PROJECTED),
                energy_kept=self._reached(lacking),
                norm_ratio=norm(factors) / self.size,
                effective_rank=effective_rank(singular_factors(factors).values),
                measures=self._measures(lacking),
            )
            yield Fitted(module=module, slot=module.slots[0], factors=factors, dtype=dtype, report=report)

    def _update(self, index: int, path: str) -> Factors:
        """Return the sum of a module's updates, as what it writes before any norm behind it."""
        total = stack([sweep.fit.factors[index] for sweep in self.sweeps])
        behind = self.norms.get(path)
        if behind is not None:
            total = Factors(total.lora_A, total.lora_B / behind.gain[:, None])
        return recompress(total, total.rank)

    def _reached(self, lacking: float) -> float:
        """Return the share (0..1) of the divergence on held-out text that is gone."""
        before = self.sweeps[0].divergence
        return 0.0 if before <= 0 or math.isnan(lacking) else min(max(1.0 - lacking / before, 0.0), 1.0)

    def _measures(self, lacking: float) -> dict[str, float]:
        """Return what was measured on held-out text, for all modules together; divergences in nats per token."""
        measures = {"divergence_before": self.sweeps[0].divergence, "divergence_after": lacking}
        for index, sweep in enumerate(self.sweeps, start=1):
            measures |= {f"sweep_{index}_r2": sweep.fit.r2, f"sweep_{index}_penalty": sweep.fit.penalty}
        return {name: value for name, value in measures.items() if not math.isnan(value)}

    def _settings(self) -> dict[str, Any]:
        options, held_out = self.options, int(self.material.is_held_out.sum())
        return {
            "roles": list(options.roles),
            "target_layers": sorted({module.slots[0].layer or 0 for module in self.modules}),
            "rank": options.rank,
            "sweeps": options.sweeps,
            "penalties": list(options.penalties),
            "state_penalty": options.state_penalty,
            "tokens": options.tokens,
            "token_groups": len(self.material.groups),
            "teacher_weight": options.teacher_weight,
            "positions": len(self.material.rows) - held_out,
            "held_out_positions": held_out,
            "skipped_tokens": options.text.skip,
            "top_share": options.top_share,
            "seed": options.seed,
        }

    def _warnings(self, lacking: float) -> Iterator[str]:
        material = self.material
        count = int((~material.is_held_out).sum())
        widest = max(module.slots[0].in_features for module in self.modules)
        if is_same_model(material.source, material.target):
            yield "the target is the source: its entries could be kept as they are"
        if count < widest:
            yield (
                f"{count} aligned positions for updates that read up to {widest} features: in some directions the "
                "penalty alone decides; give more text"
            )
        covered = float(material.rows.covered.mean())
        if covered < _LEAST_COVERED:
            yield (
                f"the tokens that are told apart carry {covered:.0%} of what the source predicts; what the adapter "
                "does to the others is not carried"
            )
        if not math.isnan(lacking) and self._reached(lacking) < _LEAST_REACHED:
            yield (
                f"{self._reached(lacking):.0%} of the wanted change of predictions is reached on held-out text; "
                "do not expect an effect"
            )
