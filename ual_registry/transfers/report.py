"""What a transfer did, as a record: for people, for machines, and inside the new artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ual_registry.air.model import Statement
from ual_registry.air.rounding import rounded
from ual_registry.digest import Digest
from ual_registry.transfers.plan import Action, TransferPlan

__all__ = [
    "CHOICE_KEY",
    "LABEL_KEY",
    "LEFT_OUT_KEY",
    "LOST_ROLES_KEY",
    "MEASURES_KEY",
    "WARNINGS_KEY",
    "EntryReport",
    "TransferReport",
    "projection_statement",
]


CHOICE_KEY = "io.ual-registry.transfer.choice"
"""Annotation: what became of every method, where the rule of ``choose`` took one."""
LABEL_KEY = "io.ual-registry.transfer.label"
"""Annotation: the verdict where the result was measured, and what to call it where it was not."""
MEASURES_KEY = "io.ual-registry.transfer.measures"
"""Annotation: what else was measured, by the slot of the target."""
LEFT_OUT_KEY = "io.ual-registry.transfer.left_out"
"""Annotation: why a planned slot of the target got nothing, by slot."""
LOST_ROLES_KEY = "io.ual-registry.transfer.lost_roles"
"""Annotation: the source's roles of which no entry has a place in the target."""
WARNINGS_KEY = "io.ual-registry.transfer.warnings"
"""Annotation: what to know before the result is trusted."""


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
        measures: What else was measured of it, by name.
        carried: Where several entries are added up there: the share of each one's squared norm, by its label.
    """

    source: str
    target: str
    action: str
    energy_kept: float
    norm_ratio: float
    effective_rank: float
    measures: Mapping[str, float] = field(default_factory=dict)
    carried: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        plan: What was planned.
        method: The projection method.
        entries: What became of every entry of the result.
        energy_share: Share (0..1) of the source's squared norm that reached the target.
        settings: What else was asked for, as JSON values.
        materials: What else went in, each with a name and a digest.
        left_out: Slots of the target that were planned and came to nothing, each with the reason.
        warnings: What to know before the result is trusted.
    """

    plan: TransferPlan
    method: str
    entries: tuple[EntryReport, ...]
    energy_share: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    materials: tuple[Mapping[str, str], ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def projection_statement(report: TransferReport, source_digest: Digest, *, builder_version: str) -> Statement:
    """Return the provenance of a projection: who, how, from what, with what result.

    Numbers are rounded to six digits, so that they are the same on machines whose last bits differ.
    """
    plan = report.plan
    settings = {**report.settings, **_pools(plan)}
    return Statement(
        type="projection",
        builder={"name": "ual-registry", "version": builder_version},
        parameters={
            "method": report.method,
            "layer_map": f"{plan.rule}, pooled" if plan.pools else str(plan.rule),
            "layers": {name or "single": list(layers) for name, layers in plan.layers.items()},
            "rotary": str(plan.rotary),
            **({"settings": settings} if settings else {}),
        },
        materials=(
            {"name": "source adapter", "digest": str(source_digest)},
            {"name": "source base config", "digest": plan.source.config_digest},
            {"name": "target base config", "digest": plan.target.config_digest},
            *report.materials,
        ),
        byproducts={
            **plan.counts(),
            "dropped_because": plan.drop_reasons(),
            "energy_share": rounded(report.energy_share),
            "entries": {entry.target: _measures(entry) for entry in report.entries},
        },
        annotations=_remarks(report),
    )


def _pools(plan: TransferPlan) -> dict[str, Any]:
    """Return all source layers of every target layer, where they are pooled."""
    found = {name or "single": [list(pool) for pool in pools] for name, pools in plan.pools.items()}
    return {"layer_pools": found} if found else {}


def _measures(entry: EntryReport) -> dict[str, Any]:
    return {
        "source": entry.source,
        "energy_kept": rounded(entry.energy_kept),
        "norm_ratio": rounded(entry.norm_ratio),
        "effective_rank": rounded(entry.effective_rank),
    }


def _remarks(report: TransferReport) -> dict[str, Any]:
    """Return what the statement has no fields for, as remarks; only what there is."""
    measures = {
        entry.target: {name: rounded(value) for name, value in entry.measures.items()}
        for entry in report.entries
        if entry.measures
    }
    named = {
        MEASURES_KEY: measures,
        LEFT_OUT_KEY: dict(report.left_out),
        LOST_ROLES_KEY: _lost_roles(report.plan),
        WARNINGS_KEY: list(report.warnings),
    }
    return {key: value for key, value in named.items() if value}


def _lost_roles(plan: TransferPlan) -> list[str]:
    moved = [(move.entry.role, move.action) for move in plan.moves if move.entry is not None]
    dropped = {role for role, action in moved if action is Action.DROPPED}
    return sorted(dropped - {role for role, action in moved if action is not Action.DROPPED})
