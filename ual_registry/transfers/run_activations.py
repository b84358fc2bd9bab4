"""Carrying out a plan by the same text through both base models: a read map and a write map for every module.

It decides which maps are fitted, which are good enough, and what is said of them. What is kept of the two models' runs
is left to ``collect``, the mathematics to ``projection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.roles import ROLES
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import NoCounterpartError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.contexts import MapKind
from ual_registry.projection.factors import Factors, effective_rank, norm, singular_factors
from ual_registry.tensors import entry_factors
from ual_registry.transfers.collect import Statistics, collect
from ual_registry.transfers.module_fit import ActivationOptions, ModuleFit, WriteKind, fit_module
from ual_registry.transfers.outputs import slot_rows, slot_weight, through_linear
from ual_registry.transfers.plan import Action, Move, TransferPlan
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.requirements import is_same_model, require_base, require_effect
from ual_registry.transfers.result import Fitted, TransferResult, energy_of, energy_share, make_result
from ual_registry.transfers.sites import Side, Site, SitePair
from ual_registry.transfers.statistics_store import StatisticsStore

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
    if not chosen.any_base:
        require_base(source, adapter.manifest.base_model, whose="the adapter")
        require_base(target, plan.target, whose="the plan")
    plan = _with_weights(plan, target)
    energies = {entry.label: energy_of(adapter, entry) for entry in adapter.entries}
    require_effect(adapter, energies)
    if is_same_model(source, target):
        return _kept(adapter, plan, energies, source_digest)
    run = _Run(adapter=adapter, plan=plan, source=source, target=target, options=chosen, energies=energies)
    return run.result(texts, source_digest, store)


def _with_weights(plan: TransferPlan, target: LoadedBase) -> TransferPlan:
    """Return the plan with the digest of the weights that the result is fitted to, where they are the planned ones."""
    if plan.target.config_digest != target.base.config_digest:
        return plan
    return replace(plan, target=replace(plan.target, weights_digest=target.base.weights_digest))


def _kept(adapter: Adapter, plan: TransferPlan, energies: Mapping[str, float], source_digest: Digest) -> TransferResult:
    fitted = [_unchanged(adapter, move) for move in plan.moves if move.action is Action.KEPT]
    reports = tuple(item.report for item in fitted)
    report = TransferReport(
        plan=plan,
        method=METHOD,
        entries=reports,
        energy_share=energy_share(reports, energies),
        warnings=("the target is the source: every entry is kept as it is",),
    )
    return make_result(adapter, fitted, report, source_digest=source_digest)


def _unchanged(adapter: Adapter, move: Move) -> Fitted:
    assert move.entry is not None  # a kept move has an entry,
    assert move.slot is not None  # a slot
    assert move.module is not None  # and a module
    factors = entry_factors(adapter, move.entry)
    report = EntryReport(
        source=move.source,
        target=str(move.target),
        action=str(move.action),
        energy_kept=1.0,
        norm_ratio=1.0,
        effective_rank=effective_rank(singular_factors(factors).values),
    )
    dtype = adapter.tensors[move.entry.lora_B].dtype
    return Fitted(module=move.module, slot=move.slot, factors=factors, dtype=dtype, report=report, kept=move.entry)


@dataclass(frozen=True, slots=True)
class _Task:
    """A move that is to be fitted: from which module and slot of the source to which of the target."""

    move: Move
    entry: Entry
    source: tuple[TargetModule, Slot]
    target: tuple[TargetModule, Slot]

    @property
    def pair(self) -> SitePair:
        """Where both modules read."""
        return SitePair(Site(self.source[0].path), Site(self.target[0].path))

    @property
    def gradients(self) -> SitePair:
        """Where a loss asks something of what both modules write."""
        return SitePair(Site(self.source[0].path, Side.GRADIENT), Site(self.target[0].path, Side.GRADIENT))


@dataclass(slots=True, kw_only=True)
class _Run:
    """One transfer: what it is given, and which moves came to nothing."""

    adapter: Adapter
    plan: TransferPlan
    source: LoadedBase
    target: LoadedBase
    options: ActivationOptions
    energies: Mapping[str, float]
    left_out: dict[str, tuple[Move, str]] = field(default_factory=dict)

    def result(self, texts: Iterable[str], source_digest: Digest, store: StatisticsStore | None) -> TransferResult:
        """Collect, fit and store."""
        tasks = list(self._tasks())
        if not tasks:
            raise self._nothing_left()
        pairs = list(dict.fromkeys(task.pair for task in tasks))
        if self.options.write == WriteKind.JOINT:
            pairs += dict.fromkeys(task.gradients for task in tasks)
        statistics = collect(self.source, self.target, pairs, texts, options=self.options.text, store=store)
        fitted = [found for task in tasks if (found := self._fit(task, statistics)) is not None]
        if not fitted:
            raise self._nothing_left()
        return make_result(self.adapter, fitted, self._report(tasks, fitted, statistics), source_digest=source_digest)

    def _tasks(self) -> Iterator[_Task]:
        slots = self.source.binding.slots()
        for move in self.plan.moves:
            if move.action is Action.DROPPED:
                continue
            entry, module, slot = move.entry, move.module, move.slot
            assert entry is not None  # only dropped moves lack
            assert module is not None  # an entry, a module
            assert slot is not None  # or a slot
            own = slots.get((entry.stack, entry.layer, entry.role, entry.expert))
            obstacle = self._obstacle(entry) if own else "the source base model has no such module"
            if own is None or obstacle is not None:
                self.left_out[str(move.target)] = (move, str(obstacle))
                continue
            yield _Task(move, entry, own, (module, slot))

    def _obstacle(self, entry: Entry) -> str | None:
        if entry.expert is not None:
            return "an expert reads only the tokens that are routed to it, which differ between the bases"
        if not ROLES[entry.role].is_per_layer:
            return "its module stands outside the blocks, where no rows of both bases correspond"
        if not self.energies[entry.label]:
            return "its update is zero"
        return None

    def _fit(self, task: _Task, statistics: Statistics) -> Fitted | None:
        """Fit one update; ``None`` where it is left out."""
        own = entry_factors(self.adapter, task.entry)
        inputs = statistics.of(task.pair)
        outputs = through_linear(inputs, slot_weight(self.source, *task.source), slot_weight(self.target, *task.target))
        gradients = None
        if self.options.write == WriteKind.JOINT:
            gradients = slot_rows(statistics.of(task.gradients), task.source[1], task.target[1])
        found = fit_module(own, inputs, outputs, gradients, self.options)
        if isinstance(found, str):
            self.left_out[str(task.move.target)] = (task.move, found)
            return None
        return self._fitted(task, own, found)

    def _fitted(self, task: _Task, own: Factors, found: ModuleFit) -> Fitted:
        report = EntryReport(
            source=task.move.source,
            target=str(task.move.target),
            action=str(Action.PROJECTED),
            energy_kept=min(max(found.measures["read_r2"], 0.0), 1.0),
            norm_ratio=norm(found.factors) / norm(own),
            effective_rank=effective_rank(singular_factors(found.factors).values),
            measures=found.measures,
        )
        dtype = self.adapter.tensors[task.entry.lora_B].dtype
        module, slot = task.target
        return Fitted(module=module, slot=slot, factors=found.factors, dtype=dtype, report=report)

    def _nothing_left(self) -> NoCounterpartError:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in self.left_out.values()))
        return NoCounterpartError(
            f"no entry of the adapter can be carried to {self.plan.target.id}: {reasons}",
            context={"source": self.source.base.id, "target": self.target.base.id},
        )

    def _report(self, tasks: list[_Task], fitted: list[Fitted], statistics: Statistics) -> TransferReport:
        reports = tuple(item.report for item in fitted)
        return TransferReport(
            plan=self._carried_out({report.target for report in reports}),
            method=METHOD,
            entries=reports,
            energy_share=energy_share(reports, self.energies),
            settings=self._settings(statistics),
            materials=self._materials(statistics),
            left_out={target: reason for target, (_, reason) in self.left_out.items()},
            warnings=tuple(_warnings(tasks, statistics)),
        )

    def _carried_out(self, targets: set[str]) -> TransferPlan:
        """Return the plan as it was carried out: what was left out is dropped, what was kept is mapped."""
        moved = [_mapped(move) for move in self.plan.moves if move.target in targets]
        used = {move.source for move in moved}
        lost = {move.source: _dropped(move, reason) for move, reason in self.left_out.values()}
        fresh = [move for source, move in lost.items() if source not in used]
        planned = [move for move in self.plan.moves if move.action is Action.DROPPED]
        return replace(self.plan, moves=(*moved, *fresh, *planned))

    def _settings(self, statistics: Statistics) -> dict[str, Any]:
        options, text = self.options, self.options.text
        fit = (
            {"penalties": list(options.penalties)}
            if options.kind == MapKind.RIDGE
            else {"whitening": options.whitening}
        )
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

    def _materials(self, statistics: Statistics) -> tuple[Mapping[str, str], ...]:
        named = (
            ("source base weights", self.source.base.weights_digest),
            ("target base weights", self.target.base.weights_digest),
            ("calibration text", str(statistics.text)),
        )
        return tuple({"name": name, "digest": digest} for name, digest in named if digest is not None)


def _mapped(move: Move) -> Move:
    if move.action is Action.KEPT:
        return replace(move, action=Action.PROJECTED, reason="same shape, in the basis of the target")
    return move


def _dropped(move: Move, reason: str) -> Move:
    return replace(move, action=Action.DROPPED, reason=reason, target=None, module=None, slot=None)


def _warnings(tasks: list[_Task], statistics: Statistics) -> Iterator[str]:
    widest = max(max(task.target[1].in_features, task.source[1].out_features) for task in tasks)
    if statistics.positions < widest:
        yield (
            f"{statistics.positions} aligned positions for maps from up to {widest} features: in some directions the "
            "penalty alone decides; give more text"
        )
