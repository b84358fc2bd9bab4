"""Carrying out a plan: every entry through one projection method that needs nothing but the shapes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from ual_registry.ahead import done_ahead
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.binders.slots import Slot
from ual_registry.digest import Digest
from ual_registry.errors import NumericalError, TransferError
from ual_registry.projection.methods import SHAPE_METHODS, SizedProjection, project
from ual_registry.tensors import stored_factors
from ual_registry.transfers.plan import Action, Move, TransferPlan
from ual_registry.transfers.pools import add_up
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.result import (
    Fitted,
    StoredModule,
    TransferResult,
    energy_of,
    energy_share,
    put_together,
    store_module,
)

__all__ = ["run_transfer"]

_MOST_THREADS = 4
_KEPT_BYTES = 31 << 20  # glibc learns from pieces of up to 32 MiB

_OWN_BASE = (
    "the target has the config of the adapter's own base model, so every entry is kept as it is; whether it is that "
    "model its weights would show: give both"
)

Job = TypeVar("Job")
Found = TypeVar("Found")


def run_transfer(adapter: Adapter, plan: TransferPlan, *, method: str, source_digest: Digest) -> TransferResult:
    """Carry out a plan.

    The mathematics is done in float64; results are stored in the source's dtype. The scaling of a projected entry is
    folded into ``lora_B``, so that it becomes 1; the tensors of a kept entry stay as they are.

    Args:
        adapter: The source.
        plan: Made from its manifest.
        method: A key of ``projection.methods.SHAPE_METHODS``.
        source_digest: Digest of the source's file; the result's lineage points to it.

    Raises:
        TransferError: There is no such method.
        NumericalError: A factor or the norm of an entry is not finite, or a factor does not fit its dtype after
            projection.
    """
    if method not in SHAPE_METHODS:
        raise TransferError(f"method {method!r}: expected one of {', '.join(SHAPE_METHODS)}", code="unknown-method")
    _keep_freed_memory()
    with _one_thread():
        parts = list(_side_by_side(functools.partial(_carry, adapter, plan, method=method), _by_module(plan)))
        energies = {label: energy for _, _, own in parts for label, energy in own.items()}
        others = [entry for entry in adapter.entries if entry.label not in energies]
        rest = _side_by_side(functools.partial(energy_of, adapter), others)
        energies |= {entry.label: energy for entry, energy in zip(others, rest, strict=True)}
    reports = tuple(report for own_reports, _, _ in parts for report in own_reports)
    share = energy_share(reports, energies)
    warnings = (_OWN_BASE,) if plan.is_same_config else ()
    report = TransferReport(plan=plan, method=method, entries=reports, energy_share=share, warnings=warnings)
    return put_together(adapter, (stored for _, stored, _ in parts), report, source_digest=source_digest)


def _by_module(plan: TransferPlan) -> list[list[Move]]:
    """Group moves by the matrix that they go to; experts of one parameter have one each."""
    found: dict[tuple[str, int | None], list[Move]] = {}
    for move in plan.moves:
        if move.action is not Action.DROPPED:
            assert move.module is not None  # only dropped moves lack a module
            assert move.slot is not None  # or a slot
            found.setdefault((move.module.path, move.slot.expert), []).append(move)
    return list(found.values())


def _side_by_side(work: Callable[[Job], Found], jobs: Iterable[Job]) -> Iterator[Found]:
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    yield from (found for _, found in done_ahead(work, jobs, threads=threads, ahead=2 * threads))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: handing these small products to another takes longer than computing them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Let the allocator keep what is freed between two entries, where it learns from what is freed (glibc).

    It gives a piece back to the system as soon as it is freed until one of this size was; every entry would have the
    system clear the same pages anew, which takes longer than the products of its factors.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)  # never touched, so it takes no memory


def _carry(
    adapter: Adapter, plan: TransferPlan, moves: Sequence[Move], *, method: str
) -> tuple[list[EntryReport], StoredModule, dict[str, float]]:
    """Carry out the moves of one module up to what is stored of it, which takes less room than float64.

    Every entry is read once: its squared norm, which the measures need, is taken on the way.
    """
    energies: dict[str, float] = {}
    is_alone = len(moves) == 1 and moves[0].weight == 1.0
    parts = [_fit(adapter, move, method, energies, is_stored=is_alone) for move in moves]
    fitted = add_up(parts, replace(plan, moves=tuple(moves)), energies)
    return [item.report for item in fitted], store_module(adapter, fitted), energies


def _fit(adapter: Adapter, move: Move, method: str, energies: dict[str, float], *, is_stored: bool) -> Fitted:
    """Carry out one move; ``is_stored`` says that the numbers are stored as they are found, and can be rounded."""
    assert move.entry is not None  # only tensors without a role have no entry,
    assert move.slot is not None  # and only dropped moves have no slot
    assert move.module is not None  # and no module
    is_kept = move.action is Action.KEPT
    found = _projected(adapter, move.entry, "truncate" if is_kept else method, move.slot, is_stored=is_stored)
    energies[move.entry.label] = found.size**2
    report = EntryReport(
        source=move.source,
        target=str(move.target),
        action=str(move.action),
        energy_kept=1.0 if is_kept else found.energy_kept,
        norm_ratio=1.0 if is_kept else found.norm_ratio,
        effective_rank=found.effective_rank,
    )
    return Fitted(
        module=move.module,
        slot=move.slot,
        factors=found.factors,
        dtype=adapter.tensors[move.entry.lora_B].dtype,
        report=report,
        kept=move.entry if is_kept else None,
    )


def _projected(adapter: Adapter, entry: Entry, method: str, slot: Slot, *, is_stored: bool) -> SizedProjection:
    source = stored_factors(adapter, entry)
    dtype = torch.float32 if is_stored and source.lora_B.dtype is torch.float32 else torch.float64
    try:
        return project(source, method, slot.in_features, slot.out_features, scale=entry.scaling, dtype=dtype)
    except NumericalError as error:
        raise NumericalError(f"{entry.label}: {error.message}", context={"entry": entry.label}) from error
