"""What a transfer did, as a record: for people, for machines, and inside the new artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ual_registry.air.model import Statement
from ual_registry.digest import Digest
from ual_registry.transfers.plan import TransferPlan

__all__ = ["EntryReport", "TransferReport", "projection_statement"]

_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryReport:
    """What became of one entry.

    Attributes:
        source: Its label in the source.
        target: Its label in the target.
        action: ``kept`` or ``projected``.
        energy_kept: Share (0..1) of its squared norm that can be carried back; see ``projection.methods.Projection``.
        norm_ratio: Frobenius norm after over before.
        effective_rank: Effective rank after.
    """

    source: str
    target: str
    action: str
    energy_kept: float
    norm_ratio: float
    effective_rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        plan: What was planned.
        method: The projection method.
        entries: What became of every entry of the result.
        energy_share: Share (0..1) of the source's squared norm that reached the target.
    """

    plan: TransferPlan
    method: str
    entries: tuple[EntryReport, ...]
    energy_share: float


def projection_statement(report: TransferReport, source_digest: Digest, *, builder_version: str) -> Statement:
    """Return the provenance of a projection: who, how, from what, with what result.

    Numbers are rounded to six digits, so that they are the same on machines whose last bits differ.
    """
    plan = report.plan
    return Statement(
        type="projection",
        builder={"name": "ual-registry", "version": builder_version},
        parameters={
            "method": report.method,
            "layer_map": "proportional",
            "layers": {name or "single": list(layers) for name, layers in plan.layers.items()},
            "rotary": str(plan.rotary),
        },
        materials=(
            {"name": "source adapter", "digest": str(source_digest)},
            {"name": "source base config", "digest": plan.source.config_digest},
            {"name": "target base config", "digest": plan.target.config_digest},
        ),
        byproducts={
            **plan.counts(),
            "dropped_because": plan.drop_reasons(),
            "energy_share": _rounded(report.energy_share),
            "entries": {entry.target: _measures(entry) for entry in report.entries},
        },
    )


def _measures(entry: EntryReport) -> dict[str, Any]:
    return {
        "source": entry.source,
        "energy_kept": _rounded(entry.energy_kept),
        "norm_ratio": _rounded(entry.norm_ratio),
        "effective_rank": _rounded(entry.effective_rank),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
