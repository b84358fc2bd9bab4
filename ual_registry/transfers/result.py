"""From fitted updates to a new adapter: what every way of transfer shares once its numbers are made.

It decides how updates become tensors and entries, what of the source's manifest stays, and how the result records its
making. How the updates came about is left to the ways of transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import with_effect
from ual_registry.air.model import Entry, Lineage, Manifest, Method, Parent
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import NumericalError
from ual_registry.projection.factors import Factors, norm
from ual_registry.tensors import entry_factors, from_torch
from ual_registry.transfers.plan import TransferPlan
from ual_registry.transfers.report import EntryReport, TransferReport, projection_statement

__all__ = [
    "Fitted",
    "StoredModule",
    "TransferResult",
    "energy_in",
    "energy_of",
    "energy_share",
    "make_result",
    "put_together",
    "store_module",
]


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A new adapter for the target, and what became of every entry."""

    adapter: Adapter
    report: TransferReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """An update that fits one slot of the target.

    Attributes:
        module: The target module.
        slot: The slot.
        factors: The update in the target's shape, scaling folded in, float64 or as it is stored; nobody changes it.
        dtype: The dtype to store it in: that of the source.
        report: What became of it.
        kept: The source entry whose tensors can stay as they are; ``None`` for new numbers.
    """

    module: TargetModule
    slot: Slot
    factors: Factors
    dtype: str
    report: EntryReport
    kept: Entry | None = None


def energy_of(adapter: Adapter, entry: Entry) -> float:
    """Return the squared norm of an entry.

    Raises:
        NumericalError: A factor or the norm is not finite.
    """
    return energy_in(entry_factors(adapter, entry), entry.label)


def energy_in(factors: Factors, label: str) -> float:
    """Return the squared norm of an update.

    Args:
        factors: The update.
        label: What to call it in the message.

    Raises:
        NumericalError: The norm is not finite.
    """
    found = norm(factors) ** 2
    if not math.isfinite(found):
        raise NumericalError(f"{label}: its norm does not fit float64", context={"entry": label})
    return found


def energy_share(reports: Iterable[EntryReport], energies: Mapping[str, float]) -> float:
    """Return the share (0..1) of the source's squared norm that reached the target.

    An entry counts once, for the place where most of it arrived.

    Args:
        reports: What became of the entries.
        energies: The squared norm of every entry of the source, by its label.
    """
    total = sum(energies.values())
    reached: dict[str, float] = {}
    for report in reports:
        for source, kept in (report.carried or {report.source: report.energy_kept}).items():
            reached[source] = max(kept, reached.get(source, 0.0))
    return sum(energies[label] * kept for label, kept in reached.items()) / total if total > 0 else 0.0


def make_result(
    adapter: Adapter, fitted: Sequence[Fitted], report: TransferReport, *, source_digest: Digest
) -> TransferResult:
    """Put fitted updates into a new adapter for the target, with lineage and provenance.

    Args:
        adapter: The source.
        fitted: The updates, at least one.
        report: What the transfer did.
        source_digest: Digest of the source's file; the result's lineage points to it.

    Raises:
        NumericalError: A factor does not fit its dtype.
    """
    stored = [store_module(adapter, items) for items in _by_module(fitted)]
    return put_together(adapter, stored, report, source_digest=source_digest)


@dataclass(frozen=True, slots=True)
class StoredModule:
    """The updates of one target module as they are stored.

    Attributes:
        entries: Its entries.
        tensors: Their tensors.
    """

    entries: tuple[Entry, ...]
    tensors: Mapping[str, Tensor]


def store_module(adapter: Adapter, fitted: Sequence[Fitted]) -> StoredModule:
    """Turn the updates of one target module into entries; those of a fused module share one ``lora_A``.

    Args:
        adapter: The source.
        fitted: The updates of one matrix of one module.

    Raises:
        NumericalError: A factor does not fit its dtype.
    """
    parts = list(_store(adapter, list(fitted)))
    return StoredModule(
        tuple(entry for entry, _ in parts), {name: tensor for _, own in parts for name, tensor in own.items()}
    )


def put_together(
    adapter: Adapter, stored: Iterable[StoredModule], report: TransferReport, *, source_digest: Digest
) -> TransferResult:
    """Put stored updates into a new adapter for the target, with lineage and provenance.

    Args:
        adapter: The source.
        stored: The updates, at least one.
        report: What the transfer did.
        source_digest: Digest of the source's file; the result's lineage points to it.
    """
    tensors: dict[str, Tensor] = {}
    entries: list[Entry] = []
    for module in stored:
        entries.extend(module.entries)
        tensors.update(module.tensors)
    manifest = with_effect(_manifest(adapter.manifest, report.plan, entries), None)
    lineage = Lineage(parents=(Parent(digest=str(source_digest), relation="projected_from"),))
    statement = projection_statement(report, source_digest, builder_version=version("ual-registry"))
    return TransferResult(
        adapter=Adapter(replace(manifest, lineage=lineage, provenance=(statement,)), tensors), report=report
    )


def _by_module(fitted: Iterable[Fitted]) -> Iterator[list[Fitted]]:
    """Group by target module; experts of one parameter have a matrix each."""
    modules: dict[tuple[str, int | None], list[Fitted]] = {}
    for item in fitted:
        modules.setdefault((item.module.path, item.slot.expert), []).append(item)
    yield from modules.values()


def _store(adapter: Adapter, items: list[Fitted]) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    kept = [item.kept for item in items if item.kept is not None]
    if len(kept) == len(items) and len({entry.lora_A for entry in kept}) == 1:
        return _store_untouched(adapter, items, kept)
    return _store_folded(items)


def _store_untouched(
    adapter: Adapter, items: list[Fitted], kept: list[Entry]
) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Leave the tensors of a module as they are: all kept, and from one source module."""
    shared = items[0].slot.tensor_name("lora_A")
    for item, source in zip(items, kept, strict=True):
        name = item.slot.tensor_name("lora_B")
        parts = {shared: _copied(adapter.tensors[source.lora_A]), name: _copied(adapter.tensors[source.lora_B])}
        yield _entry(item, shared, name, source.rank, source.scaling), parts


def _copied(tensor: Tensor) -> Tensor:
    """Take a tensor out of its file, which may be closed before the result is written."""
    return Tensor.of_bytes(tensor.dtype, tensor.shape, tensor.to_bytes())


def _store_folded(items: list[Fitted]) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Store updates with their scaling folded in; in a fused module each reads its own rows of ``lora_A``."""
    factors = [item.factors for item in items]
    lora_A = factors[0].lora_A if len(items) == 1 else torch.cat([own.lora_A for own in factors])
    shared = items[0].slot.tensor_name("lora_A")
    start = 0
    for item, own in zip(items, factors, strict=True):
        name = item.slot.tensor_name("lora_B")
        lora_B = own.lora_B if len(items) == 1 else _among_columns(own.lora_B, start, lora_A.shape[0])
        start += own.rank
        parts = {shared: _stored(lora_A, item.dtype, shared), name: _stored(lora_B, item.dtype, name)}
        yield _entry(item, shared, name, lora_A.shape[0], 1.0), parts


def _among_columns(own: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Return a matrix with zeros on both sides, ``count`` columns in all, of which it has those from ``start``."""
    wide = own.new_zeros(own.shape[0], count)
    wide[:, start : start + own.shape[1]] = own
    return wide


def _stored(tensor: torch.Tensor, dtype: str, name: str) -> Tensor:
    try:
        return from_torch(tensor, dtype, is_own=True)
    except NumericalError as error:
        raise NumericalError(f"{name}: {error.message}", hint=error.hint, context={"tensor": name}) from error


def _entry(item: Fitted, lora_A: str, lora_B: str, rank: int, scaling: float) -> Entry:
    return item.slot.entry(source=item.module.path, lora_A=lora_A, lora_B=lora_B, rank=rank, scaling=scaling)


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
