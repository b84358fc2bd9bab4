"""Carrying out a plan by the same text through both base models: a read map and a write map for every module.

It decides which maps are fitted, which are good enough, and what is said of them. What is kept of the two models' runs
is left to ``collect``, the mathematics to ``projection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.fit_device import fit_device
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.contexts import MapKind
from ual_registry.tensors import entry_factors
from ual_registry.transfers.bases import base_materials, check_bases
from ual_registry.transfers.collect import Statistics, collect
from ual_registry.transfers.layer_similarity import choose_layers
from ual_registry.transfers.layers import LayerChoice, LayerPolicy, LayerRule
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind, fit_module
from ual_registry.transfers.outputs import slot_rows, slot_weight, through_linear
from ual_registry.transfers.plan import TransferPlan, make_plan
from ual_registry.transfers.pools import add_up
from ual_registry.transfers.report import TransferReport
from ual_registry.transfers.result import Fitted, TransferResult, energy_share, make_result
from ual_registry.transfers.sites import Side, Site, SitePair
from ual_registry.transfers.statistics_store import StatisticsStore
from ual_registry.transfers.tasks import LeftOut, Task, find_tasks, fitted_as, stays_as_it_is, unchanged_result
from ual_registry.transfers.text_scripts import script_warnings

__all__ = ["METHOD", "run_activations"]

METHOD = "activations"


def run_activations(
    adapter: Adapter,
    plan: TransferPlan,
    source: LoadedBase,
    target: LoadedBase,
    texts: Iterable[str],
    *,
    source_digest: Digest,
    options: ActivationOptions | None = None,
    store: StatisticsStore | None = None,
) -> TransferResult:
    """Carry out a plan by maps between the activations of both base models on the same text.

    Where the target is the source, nothing has to be mapped and every planned entry is kept as it is.

    Args:
        adapter: The source.
        plan: Made from its manifest.
        source: The base model of the adapter.
        target: The base model to go to.
        texts: Unlabelled text.
        source_digest: Digest of the source's file; the result's lineage points to it.
        options: How maps are fitted and judged.
        store: Where statistics are kept for other adapters and later runs.

    Raises:
        TransferError: The adapter has no effect, a base model has no tokenizer, or the text does not do.
        BaseMismatchError: A base model is not the one of the adapter or of the plan.
        NoCounterpartError: Nothing of the adapter passes the gate.
        NumericalError: A factor or an activation is not finite.
    """
    chosen = options or ActivationOptions()
    plan, energies = check_bases(adapter, plan, source, target, any_base=chosen.any_base)
    if stays_as_it_is(plan, source, target):
        return unchanged_result(adapter, plan, energies, method=METHOD, source_digest=source_digest)
    texts = list(texts)
    plan = _with_layers(adapter, plan, (source, target), texts, chosen)
    run = _Run(
        adapter=adapter,
        plan=plan,
        source=source,
        target=target,
        options=chosen,
        energies=energies,
        remarks=tuple(script_warnings((source, target), texts)),
    )
    return run.result(texts, source_digest, store)


def _with_layers(
    adapter: Adapter,
    plan: TransferPlan,
    bases: tuple[LoadedBase, LoadedBase],
    texts: list[str],
    options: ActivationOptions,
) -> TransferPlan:
    """Return the plan with the layers that were asked for."""
    policy = LayerPolicy(options.policy)
    if options.layer_map == LayerRule.CKA:
        choice = choose_layers(*bases, texts, policy=policy, options=options.text)
    elif policy is LayerPolicy.POOL and not plan.pools:
        choice = LayerChoice(rule=plan.rule, policy=policy, found=plan.layers)
    else:
        return plan
    made = make_plan(
        adapter.manifest,
        bases[1].config,
        target_id=plan.target.id,
        rotary=plan.rotary,
        layers=choice,
        source=bases[0].config,
    )
    return replace(made, target=plan.target)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One transfer: what it is given, and which moves came to nothing."""

    adapter: Adapter
    plan: TransferPlan
    source: LoadedBase
    target: LoadedBase
    options: ActivationOptions
    energies: Mapping[str, float]
    remarks: tuple[str, ...]
    left_out: LeftOut = field(default_factory=LeftOut)

    def result(self, texts: Iterable[str], source_digest: Digest, store: StatisticsStore | None) -> TransferResult:
        """Collect, fit and store."""
        tasks = list(find_tasks(self.plan, self.source, self.energies, self.left_out))
        if not tasks:
            raise self.left_out.error(self.plan, self.source)
        pairs = list(dict.fromkeys(_inputs(task) for task in tasks))
        if self.options.write == WriteKind.JOINT:
            pairs += dict.fromkeys(_gradients(task) for task in tasks)
        statistics = collect(self.source, self.target, pairs, texts, options=self.options.text, store=store)
        parts = [found for task in tasks if (found := self._fit(task, statistics)) is not None]
        if not parts:
            raise self.left_out.error(self.plan, self.source)
        fitted = add_up(parts, self.plan, self.energies)
        return make_result(self.adapter, fitted, self._report(tasks, fitted, statistics), source_digest=source_digest)

    def _fit(self, task: Task, statistics: Statistics) -> Fitted | None:
        """Fit one update; ``None`` where it is left out."""
        own, device = entry_factors(self.adapter, task.entry), fit_device(self.target.device)
        inputs = statistics.of(_inputs(task)).to(device)
        outputs = through_linear(inputs, slot_weight(self.source, *task.source), slot_weight(self.target, *task.target))
        gradients = None
        if self.options.write == WriteKind.JOINT:
            gradients = slot_rows(statistics.of(_gradients(task)).to(device), task.source[1], task.target[1])
        found = fit_module(own.to(device), inputs, outputs, gradients, self.options)
        if isinstance(found, str):
            self.left_out.add(task.move, found)
            return None
        kept = found.measures["read_r2"]
        factors = found.factors.to("cpu")
        return fitted_as(self.adapter, task, own, factors, energy_kept=kept, measures=found.measures)

    def _report(self, tasks: list[Task], fitted: list[Fitted], statistics: Statistics) -> TransferReport:
        reports = tuple(item.report for item in fitted)
        return TransferReport(
            plan=self.left_out.carried_out(self.plan, reports),
            method=METHOD,
            entries=reports,
            energy_share=energy_share(reports, self.energies),
            settings=self._settings(statistics),
            materials=base_materials(self.source, self.target, statistics.text),
            left_out=self.left_out.reasons(report.target for report in reports),
            warnings=(*self.remarks, *_warnings(tasks, statistics)),
        )

    def _settings(self, statistics: Statistics) -> dict[str, Any]:
        options, text = self.options, self.options.text
        has_ridge = options.kind == MapKind.RIDGE or options.write == WriteKind.JOINT
        fit: dict[str, Any] = {"penalties": list(options.penalties)} if has_ridge else {}
        if options.kind == MapKind.PROCRUSTES:
            fit["whitening"] = options.whitening
        return {
            "maps": str(options.kind),
            "write": str(options.write),
            **fit,
            "gate": options.gate,
            "norm": str(options.norm),
            "positions": statistics.positions,
            "held_out_positions": statistics.held_out_positions,
            "skipped_tokens": text.skip,
            **({} if text.clip is None else {"clip": text.clip}),
        }


def _inputs(task: Task) -> SitePair:
    """Return where both modules of a task read."""
    return SitePair(Site(task.source[0].path), Site(task.target[0].path))


def _gradients(task: Task) -> SitePair:
    """Return where a loss asks something of what both modules of a task write."""
    return SitePair(Site(task.source[0].path, Side.GRADIENT), Site(task.target[0].path, Side.GRADIENT))


def _warnings(tasks: list[Task], statistics: Statistics) -> Iterator[str]:
    widest = max(max(task.target[1].in_features, task.source[1].out_features) for task in tasks)
    if statistics.positions < widest:
        yield (
            f"{statistics.positions} aligned positions for maps from up to {widest} features: in some directions the "
            "penalty alone decides; give more text"
        )
