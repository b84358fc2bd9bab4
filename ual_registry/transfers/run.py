"""Carrying out a plan: every entry through one projection method that needs nothing but the shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.projection.methods import SHAPE_METHODS, project
from ual_registry.tensors import entry_factors
from ual_registry.transfers.plan import Action, Move, TransferPlan
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.result import Fitted, TransferResult, energy_of, energy_share, make_result

__all__ = ["run_transfer"]


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
    with _one_thread():
        energies = {entry.label: energy_of(adapter, entry) for entry in adapter.entries}
        fitted = [_fit(adapter, move, method) for move in plan.moves if move.action is not Action.DROPPED]
    reports = tuple(item.report for item in fitted)
    share = energy_share(reports, energies)
    report = TransferReport(plan=plan, method=method, entries=reports, energy_share=share)
    return make_result(adapter, fitted, report, source_digest=source_digest)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: handing these small products to another takes longer than computing them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(adapter: Adapter, move: Move, method: str) -> Fitted:
    assert move.entry is not None  # only tensors without a role have no entry,
    assert move.slot is not None  # and only dropped moves have no slot
    assert move.module is not None  # and no module
    source = entry_factors(adapter, move.entry)
    found = project(source, method, move.slot.in_features, move.slot.out_features)
    is_kept = move.action is Action.KEPT
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
        factors=source if is_kept else found.factors,
        dtype=adapter.tensors[move.entry.lora_B].dtype,
        report=report,
        kept=move.entry if is_kept else None,
    )
