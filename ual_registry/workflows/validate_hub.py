"""Check AIR files on the Hub by their headers; what the Hub refuses is a problem of the report."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ual_registry.air.policy import Policy
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.validate import validate_source
from ual_registry.errors import ForeignFormatError, HubError, StorageError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.choice import RepositoryAdapter, is_air
from ual_registry.hub.model import Snapshot
from ual_registry.workflows.hub_look import adapters_at, labels

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub

__all__ = ["validate_hub"]

_BRANCHES: tuple[tuple[type[Exception], str], ...] = (
    (HubError, "hub"),
    (StorageError, "storage"),
    (ForeignFormatError, "container"),
)


def validate_hub(text: str, *, policy: Policy | None = None) -> list[ValidationReport]:
    """Check the AIR files at an address of the Hub; of each only the header is read.

    Args:
        text: ``hf:owner/name``, with revision and path where wanted; without a path every AIR file is meant, at any
            depth.
        policy: What is asked of each beyond being legal.

    Returns:
        A report for each file, or one that says why there is none.
    """
    try:
        from ual_registry.hub.client import Hub  # noqa: PLC0415  # only where the Hub is named

        address = HubAddress.parse(text)
        hub = Hub.open()
        snapshot = hub.pin(address.repository, address.revision)
        adapters = adapters_at(snapshot, address).adapters
    except (HubError, StorageError, ForeignFormatError) as error:
        return [_refused(text, error)]
    files = tuple(adapter for adapter in adapters if is_air(adapter.path))
    if not files:
        return [_only_peft(text, address)]
    return [
        _report(hub, snapshot, adapter, label, policy)
        for adapter, label in zip(files, labels(address, files), strict=True)
    ]


def _report(
    hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter, label: str, policy: Policy | None
) -> ValidationReport:
    try:
        source = hub.open_range(snapshot, adapter.file)
        report = validate_source(source, label, headers_only=True, policy=policy)
    except (HubError, StorageError) as error:
        return _refused(label, error)
    place = {"repository": snapshot.repository, "commit": snapshot.commit, "file": adapter.path}
    return dataclasses.replace(report, facts={**report.facts, **place}) if report.facts else report


def _refused(label: str, error: HubError | StorageError | ForeignFormatError) -> ValidationReport:
    branch = next(branch for kind, branch in _BRANCHES if isinstance(error, kind))
    problem = Problem(code=error.problem_code, place="", message=error.message, hint=error.hint, branch=branch)
    return ValidationReport(path=label, problems=(problem,))


def _only_peft(label: str, address: HubAddress) -> ValidationReport:
    problem = Problem(
        code="no-air-file",
        place="",
        message=f"{address}: holds a PEFT adapter, and no AIR file",
        hint=f"'ual show {address}' describes it; 'ual pull {address}' makes an AIR file of it",
        branch="container",
    )
    return ValidationReport(path=label, problems=(problem,))
