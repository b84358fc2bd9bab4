"""Carrying out a plan by the weights of both base models, without any text.

It decides which updates are fitted and what is said of them. How one is fitted is left to ``weight_fit`` and
``vocabulary_fit``, the mathematics to ``projection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.rounding import rounded
from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.factors import norm
from ual_registry.projection.methods import COPY, SUBSPACE, VOCAB, project_with
from ual_registry.tensors import entry_factors
from ual_registry.transfers.alignment import Alignment, align
from ual_registry.transfers.bases import base_materials, check_bases
from ual_registry.transfers.plan import TransferPlan
from ual_registry.transfers.pools import add_up
from ual_registry.transfers.report import TransferReport
from ual_registry.transfers.result import Fitted, TransferResult, energy_share, make_result
from ual_registry.transfers.tasks import (
    LeftOut,
    Task,
    find_tasks,
    fitted_as,
    fitted_unchanged,
    stays_as_it_is,
    unchanged_result,
)
from ual_registry.transfers.vocabulary_fit import LayerMaps, layer_maps
from ual_registry.transfers.weight_fit import WeightOptions, fit_subspace, require_one_lineage, task_weights

__all__ = ["WEIGHT_METHODS", "run_weights"]

WEIGHT_METHODS = (COPY.name, SUBSPACE.name, VOCAB.name)
"""The methods that need the weights of both base models and nothing more."""


def run_weights(
    adapter: Adapter,
    plan: TransferPlan,
    source: LoadedBase,
    target: LoadedBase,
    *,
    method: str,
    source_digest: Digest,
    options: WeightOptions | None = None,
) -> TransferResult:
    """Carry out a plan by the weights of both base models.

    Where the target is the source, nothing has to be mapped and every planned entry is kept as it is.

    Args:
        adapter: The source.
        plan: Made from its manifest.
        source: The base model of the adapter.
        target: The base model to go to.
        method: One of ``WEIGHT_METHODS``.
        source_digest: Digest of the source's file; the result's lineage points to it.
        options: How updates are fitted.

    Raises:
        TransferError: There is no such method, the adapter has no effect, or ``copy`` finds no common lineage.
        BaseMismatchError: A base model is not the one of the adapter or of the plan.
        NoCounterpartError: Nothing of the adapter can be carried.
        NumericalError: A factor or a weight is not finite.
    """
    if method not in WEIGHT_METHODS:
        raise TransferError(f"method {method!r}: expected one of {', '.join(WEIGHT_METHODS)}", code="unknown-method")
    chosen = options or WeightOptions()
    plan, energies = check_bases(adapter, plan, source, target, any_base=chosen.any_base)
    if stays_as_it_is(plan, source, target):
        return unchanged_result(adapter, plan, energies, method=method, source_digest=source_digest)
    run = _Run(
        adapter=adapter, plan=plan, source=source, target=target, method=method, options=chosen, energies=energies
    )
    return run.result(source_digest)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One transfer: what it is given, and which moves came to nothing."""

    adapter: Adapter
    plan: TransferPlan
    source: LoadedBase
    target: LoadedBase
    method: str
    options: WeightOptions
    energies: Mapping[str, float]
    left_out: LeftOut = field(default_factory=LeftOut)
    alignment: Alignment | None = None

    def result(self, source_digest: Digest) -> TransferResult:
        """Fit and store."""
        tasks = list(find_tasks(self.plan, self.source, self.energies, self.left_out))
        ways = {COPY.name: self._copied, SUBSPACE.name: self._through_subspaces, VOCAB.name: self._through_vocabulary}
        fitted = add_up(ways[self.method](tasks), self.plan, self.energies)
        if not fitted:
            raise self.left_out.error(self.plan, self.source)
        return make_result(self.adapter, fitted, self._report(fitted), source_digest=source_digest)

    def _copied(self, tasks: list[Task]) -> list[Fitted]:
        cosines = require_one_lineage(tasks, self.source, self.target, self.options.threshold)
        return [
            fitted_unchanged(self.adapter, task.move, {"lineage_cosine": cosine})
            for task, cosine in zip(tasks, cosines, strict=True)
        ]

    def _through_subspaces(self, tasks: list[Task]) -> list[Fitted]:
        found = []
        for task in tasks:
            own = entry_factors(self.adapter, task.entry)
            factors, measures = fit_subspace(own, task_weights(task, self.source, self.target), self.options.k)
            if not norm(factors) > 0:
                self.left_out.add(task.move, "nothing of it lies in the leading singular subspaces")
                continue
            kept = measures["subspace_energy"]
            found.append(fitted_as(self.adapter, task, own, factors, energy_kept=kept, measures=measures))
        return found

    def _through_vocabulary(self, tasks: list[Task]) -> list[Fitted]:
        if not tasks:
            return []
        self.alignment = align(self.source, self.target, self.options)
        found = {}
        for group in _by_layers(tasks):
            for task, maps in layer_maps(self.alignment, group, self.options):
                made = maps if isinstance(maps, str) else self._mapped(task, maps)
                if isinstance(made, str):
                    self.left_out.add(task.move, made)
                else:
                    found[task.move.source, task.move.target] = made
        keys = [(task.move.source, task.move.target) for task in tasks]
        return [found[key] for key in keys if key in found]

    def _mapped(self, task: Task, maps: LayerMaps) -> Fitted | str:
        own = entry_factors(self.adapter, task.entry)
        found = project_with(own, VOCAB, replace(maps.context, norm=self.options.norm))
        if not found.norm_ratio > 0:
            return "its maps leave nothing of the update"
        return fitted_as(self.adapter, task, own, found.factors, energy_kept=found.energy_kept, measures=maps.measures)

    def _report(self, fitted: list[Fitted]) -> TransferReport:
        reports = tuple(item.report for item in fitted)
        return TransferReport(
            plan=self.left_out.carried_out(self.plan, reports),
            method=self.method,
            entries=reports,
            energy_share=energy_share(reports, self.energies),
            settings=self._settings(),
            materials=base_materials(self.source, self.target),
            left_out=self.left_out.reasons(report.target for report in reports),
            warnings=tuple(self.alignment.warnings()) if self.alignment else (),
        )

    def _settings(self) -> dict[str, Any]:
        options = self.options
        if self.alignment is None:
            return {"threshold": options.threshold} if self.method == COPY.name else {"k": options.k}
        maps = self.alignment.maps
        return {
            "anchors": str(options.anchors),
            "shared_tokens": self.alignment.anchors,
            "penalties": list(maps.penalties),
            "anchor_r2": [rounded(value) for value in maps.r2],
            "gate": options.gate,
            "norm": str(options.norm),
        }


def _by_layers(tasks: Iterable[Task]) -> list[list[Task]]:
    """Group tasks by stack and by the layers that they go between."""
    groups: dict[tuple[str | None, int | None, int | None], list[Task]] = {}
    for task in tasks:
        place = (task.entry.stack, task.source[1].layer, task.target[1].layer)
        groups.setdefault(place, []).append(task)
    return list(groups.values())
