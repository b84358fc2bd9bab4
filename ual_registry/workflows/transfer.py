"""Carry an adapter to another base model: plan it without torch, or do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read, verify
from ual_registry.air.write import file_digest
from ual_registry.digest import Digest
from ual_registry.transfers.plan import RotaryPolicy, TransferPlan, make_plan
from ual_registry.workflows.bases import find_base
from ual_registry.workflows.extras import need_torch
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.transfers.result import TransferResult

__all__ = ["DEFAULT_METHOD", "plan_transfer", "transfer"]

DEFAULT_METHOD = "svd"


def plan_transfer(
    source: Adapter | str | Path,
    target: str | Path,
    *,
    target_id: str | None = None,
    target_revision: str | None = None,
    rotary: RotaryPolicy | str = RotaryPolicy.DROP,
) -> TransferPlan:
    """Say what a transfer would do, entry by entry; torch is not loaded.

    Args:
        source: An adapter, or a reference to one.
        target: The base model to go to: its folder, its ``config.json``, or its repository on the Hub.
        target_id: Label of the target; its repository, or the name of its folder, where absent.
        target_revision: Commit of the target, where known; of a repository on the Hub the one that was read.
        rotary: ``drop`` or ``project`` query and key where rotary position embedding differs.

    Raises:
        UALError: The source or the target cannot be read, or nothing has a place in the target.
    """
    found = find_base(target)
    name, commit = found.labels(target_id, target_revision)
    labels = {"target_id": name, "target_revision": commit}
    if isinstance(source, Adapter):
        return make_plan(source.manifest, found.config, rotary=rotary, **labels)
    with read(locate(str(source))) as adapter:
        return make_plan(adapter.manifest, found.config, rotary=rotary, **labels)


def transfer(
    source: Adapter | str | Path,
    target: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    target_id: str | None = None,
    target_revision: str | None = None,
    rotary: RotaryPolicy | str = RotaryPolicy.DROP,
) -> TransferResult:
    """Make a new adapter for another base model.

    Args:
        source: An adapter, or a reference to one.
        target: The base model to go to: its folder, its ``config.json``, or its repository on the Hub.
        method: ``svd``, ``truncate`` or ``interpolate``; all three are control-grade between unrelated bases.
        target_id: Label of the target; its repository, or the name of its folder, where absent.
        target_revision: Commit of the target, where known; of a repository on the Hub the one that was read.
        rotary: ``drop`` or ``project`` query and key where rotary position embedding differs.

    Returns:
        The new adapter, with lineage and provenance in its manifest, and the report.

    Raises:
        MissingExtraError: torch is not installed.
        UALError: As ``plan_transfer`` and ``transfers.run.run_transfer``.
    """
    labels = {"target_id": target_id, "target_revision": target_revision}
    if isinstance(source, Adapter):
        plan = plan_transfer(source, target, rotary=rotary, **labels)
        return _runner()(source, plan, method=method, source_digest=file_digest(source))
    path = locate(str(source))
    with read(path) as adapter:
        verify(adapter)
        plan = plan_transfer(adapter, target, rotary=rotary, **labels)
        return _runner()(adapter, plan, method=method, source_digest=Digest.of_file(path))


def _runner() -> Callable[..., TransferResult]:
    """Return ``run_transfer``, which brings torch along."""
    need_torch("transfer")
    from ual_registry.transfers.run import run_transfer  # noqa: PLC0415  # loads torch

    return run_transfer
