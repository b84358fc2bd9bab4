"""Carrying out a plan: every entry through one projection method, into a new adapter with its record inside."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Lineage, Manifest, Method, Parent
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import NumericalError, TransferError
from ual_registry.projection.factors import Factors, norm
from ual_registry.projection.methods import METHODS, project
from ual_registry.tensors import entry_factors, from_torch
from ual_registry.transfers.plan import Action, Move, TransferPlan
from ual_registry.transfers.report import EntryReport, TransferReport, projection_statement

__all__ = ["TransferResult", "run_transfer"]


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A new adapter for the target, and what became of every entry."""

    adapter: Adapter
    report: TransferReport


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A move carried out.

    Attributes:
        move: The move.
        entry: Its source entry.
        slot: Its target slot.
        factors: The update in the target's shape, scaling folded in, float64.
        dtype: The dtype to store it in: that of the source.
        report: What became of it.
    """

    move: Move
    entry: Entry
    slot: Slot
    factors: Factors
    dtype: str
    report: EntryReport


def run_transfer(adapter: Adapter, plan: TransferPlan, *, method: str, source_digest: Digest) -> TransferResult:
    """Carry out a plan.

    The mathematics is done in float64; results are stored in the source's dtype. The scaling of a projected entry is
    folded into ``lora_B``, so that it becomes 1; the tensors of a kept entry stay as they are.

    Args:
        adapter: The source.
        plan: Made from its manifest.
        method: A key of ``projection.methods.METHODS``.
        source_digest: Digest of the source's file; the result's lineage points to it.

    Raises:
        TransferError: There is no such method.
        NumericalError: A factor or the norm of an entry is not finite, or a factor does not fit its dtype after
            projection.
    """
    if method not in METHODS:
        raise TransferError(f"method {method!r}: expected one of {', '.join(METHODS)}", code="unknown-method")
    with _one_thread():
        energies = {entry.label: _energy(adapter, entry) for entry in adapter.entries}
        fitted = [_fit(adapter, move, method) for move in plan.moves if move.action is not Action.DROPPED]
    report = TransferReport(
        plan=plan,
        method=method,
        entries=tuple(item.report for item in fitted),
        energy_share=_energy_share(fitted, energies),
    )
    tensors: dict[str, Tensor] = {}
    entries: list[Entry] = []
    for module, items in _by_module(fitted):
        for entry, parts in _store(adapter, module, items):
            entries.append(entry)
            tensors.update(parts)
    manifest = _manifest(adapter.manifest, plan, entries)
    lineage = Lineage(parents=(Parent(digest=str(source_digest), relation="projected_from"),))
    statement = projection_statement(report, source_digest, builder_version=version("ual-registry"))
    return TransferResult(
        adapter=Adapter(replace(manifest, lineage=lineage, provenance=(statement,)), tensors), report=report
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: handing these small products to another takes longer than computing them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _energy(adapter: Adapter, entry: Entry) -> float:
    """Return the squared norm of an entry."""
    found = norm(entry_factors(adapter, entry)) ** 2
    if not math.isfinite(found):
        raise NumericalError(f"{entry.label}: its norm does not fit float64", context={"entry": entry.label})
    return found


def _fit(adapter: Adapter, move: Move, method: str) -> _Fitted:
    assert move.entry is not None  # only tensors without a role have no entry,
    assert move.slot is not None  # and only dropped moves have no slot
    source = entry_factors(adapter, move.entry)
    found = project(source, method, move.slot.in_features, move.slot.out_features)
    factors = source if move.action is Action.KEPT else found.factors
    report = EntryReport(
        source=move.source,
        target=str(move.target),
        action=str(move.action),
        energy_kept=1.0 if move.action is Action.KEPT else found.energy_kept,
        norm_ratio=1.0 if move.action is Action.KEPT else found.norm_ratio,
        effective_rank=found.effective_rank,
    )
    return _Fitted(move, move.entry, move.slot, factors, adapter.tensors[move.entry.lora_B].dtype, report)


def _energy_share(fitted: list[_Fitted], energies: Mapping[str, float]) -> float:
    """Return the share of the source's squared norm that reached the target; an entry counts once."""
    total = sum(energies.values())
    reached = {item.report.source: item.report.energy_kept for item in fitted}
    return sum(energies[label] * kept for label, kept in reached.items()) / total if total > 0 else 0.0


def _by_module(fitted: list[_Fitted]) -> Iterator[tuple[TargetModule, list[_Fitted]]]:
    """Group by target module; experts of one parameter have a matrix each."""
    modules: dict[tuple[str, int | None], tuple[TargetModule, list[_Fitted]]] = {}
    for item in fitted:
        assert item.move.module is not None  # as in _fit
        key = (item.move.module.path, item.slot.expert)
        modules.setdefault(key, (item.move.module, []))[1].append(item)
    yield from modules.values()


def _store(adapter: Adapter, module: TargetModule, items: list[_Fitted]) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Turn the updates of one target module into entries; those of a fused module share one ``lora_A``."""
    if _is_untouched(items):
        return _store_untouched(adapter, module, items)
    return _store_folded(module, items)


def _is_untouched(items: list[_Fitted]) -> bool:
    """Tell whether a module's tensors can stay as they are: all kept, and from one source module."""
    sources = {item.entry.lora_A for item in items}
    return len(sources) == 1 and all(item.move.action is Action.KEPT for item in items)


def _store_untouched(
    adapter: Adapter, module: TargetModule, items: list[_Fitted]
) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    shared = items[0].slot.tensor_name("lora_A")
    for item in items:
        source, name = item.entry, item.slot.tensor_name("lora_B")
        parts = {shared: _copied(adapter.tensors[source.lora_A]), name: _copied(adapter.tensors[source.lora_B])}
        yield _entry(item.slot, module, {"lora_A": shared, "lora_B": name}, source.rank, source.scaling), parts


def _copied(tensor: Tensor) -> Tensor:
    """Take a tensor out of its file, which may be closed before the result is written."""
    return Tensor.of_bytes(tensor.dtype, tensor.shape, tensor.to_bytes())


def _store_folded(module: TargetModule, items: list[_Fitted]) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Store updates with their scaling folded in; in a fused module each reads its own rows of ``lora_A``."""
    lora_A = torch.cat([item.factors.lora_A for item in items])
    shared = items[0].slot.tensor_name("lora_A")
    start = 0
    for item in items:
        own, name = item.factors.lora_B, item.slot.tensor_name("lora_B")
        lora_B = own.new_zeros(own.shape[0], lora_A.shape[0])
        lora_B[:, start : start + own.shape[1]] = own
        start += own.shape[1]
        parts = {shared: _stored(lora_A, item.dtype, shared), name: _stored(lora_B, item.dtype, name)}
        yield _entry(item.slot, module, {"lora_A": shared, "lora_B": name}, lora_A.shape[0], 1.0), parts


def _stored(tensor: torch.Tensor, dtype: str, name: str) -> Tensor:
    try:
        return from_torch(tensor, dtype)
    except NumericalError as error:
        raise NumericalError(f"{name}: {error.message}", hint=error.hint, context={"tensor": name}) from error


def _entry(slot: Slot, module: TargetModule, names: Mapping[str, str], rank: int, scaling: float) -> Entry:
    return Entry(
        stack=slot.stack,
        layer=slot.layer,
        role=slot.role,
        expert=slot.expert,
        in_features=slot.in_features,
        out_features=slot.out_features,
        rank=rank,
        scaling=scaling,
        lora_A=names["lora_A"],
        lora_B=names["lora_B"],
        source=module.path,
        slice=slot.rows,
    )


def _manifest(source: Manifest, plan: TransferPlan, entries: list[Entry]) -> Manifest:
    """Describe the result: what people wrote of the source stays, what belonged to its file does not."""
    rank = max(entry.rank for entry in entries)
    return replace(
        source,
        air_version=AIR_VERSION,
        base_model=plan.target,
        method=Method(
            type="lora",
            task_type=source.method.task_type,
            rank=rank,
            alpha=float(rank),
            scaling_rule="alpha/rank",
            dropout=0.0,
            bias="none",
            dora=False,
        ),
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        extra=(),
        origin=None,
        features=(),
        created_at=None,
    )
