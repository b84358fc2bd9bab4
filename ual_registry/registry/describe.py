"""From a manifest to rows: everything that the tables say of an artifact, made without a database.

A manifest may hold longer texts and larger numbers than an index can. The rows hold what people search by; where a
text is too long for that, its beginning stands there, and the bytes in the store keep the whole.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.air.model import BaseModel, Entry, Manifest, Statement
from ual_registry.air.router import RouterManifest
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import MEDIA_TYPE
from ual_registry.registry.record_tables import DomainRow, EvaluationRow, ProjectionRow, RouterRow, TrainingRow
from ual_registry.registry.summaries import measurements_text, targets_text
from ual_registry.registry.tables import (
    EntryRow,
    RoleRow,
    Table,
)

__all__ = ["DISPATCHES_TO", "LABEL_LIMIT", "Description", "Row", "describe", "shortened"]

Row = dict[str, Any]
"""The columns of a row by name."""

LABEL_LIMIT = 256
"""Characters of a text that stands in an index; PostgreSQL takes no more than 2,704 bytes for all of a key."""

DISPATCHES_TO = "dispatches_to"
"""How a router's row in the lineage depends on the adapters of its domains; the file names them there alone."""

_WORD_LIMIT = 64
_TEXT_LIMIT = 65_536
_INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The rows of one artifact; its row number is not known yet.

    Attributes:
        artifact: Its own row, without ``base_model_id`` and times.
        base_model: The row of its base model; none for a router.
        records: The rows that belong to it, by table, without ``artifact_id``.
        edges: The rows of its lineage.
        tags: The tags of the manifest.
    """

    artifact: Row
    base_model: Row | None
    records: Mapping[type[Table], Sequence[Row]]
    edges: Sequence[Row]
    tags: Sequence[str]

    @property
    def digest(self) -> str:
        """The artifact's digest."""
        return str(self.artifact["digest"])


def describe(
    manifest: Manifest | RouterManifest, tensors: Mapping[str, Tensor], *, digest: str, size_bytes: int
) -> Description:
    """Describe an artifact.

    Args:
        manifest: What it says of itself.
        tensors: Its tensors; only their shapes are looked at.
        digest: Digest of its bytes.
        size_bytes: Size of its bytes.
    """
    is_router = isinstance(manifest, RouterManifest)
    records = _router_records(manifest) if isinstance(manifest, RouterManifest) else _adapter_records(manifest)
    return Description(
        artifact={
            "digest": digest,
            "tensor_digest": manifest.tensor_digest,
            "kind": manifest.kind,
            "media_type": MEDIA_TYPE,
            "size_bytes": size_bytes,
            "title": _text(manifest.name),
            "description": _text(manifest.description, _TEXT_LIMIT),
            "license": _text(manifest.license),
            "method": "router" if is_router else _method(manifest),
            "recovered_gain": _recovered_gain(manifest.provenance),
            "parameter_count": sum(math.prod(tensors[name].shape) for name in _factors(manifest, tensors)),
            **_adapter_columns(manifest),
            "targets": targets_text(records.get(RoleRow, ())),
            "measurements": measurements_text(records.get(EvaluationRow, ())),
        },
        base_model=None if isinstance(manifest, RouterManifest) else _base_model(manifest.base_model),
        records={table: rows for table, rows in records.items() if rows},
        edges=_edges(manifest, digest),
        tags=manifest.tags,
    )


def _factors(manifest: Manifest | RouterManifest, tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors that hold factors; one that entries share counts once."""
    if isinstance(manifest, RouterManifest):
        return set(tensors)
    return {name for entry in manifest.entries for name in entry.tensor_names().values()}


def _adapter_columns(manifest: Manifest | RouterManifest) -> Row:
    if isinstance(manifest, RouterManifest):
        return {"task_type": None, "domain": None, "entry_count": 0, "rank_min": None, "rank_max": None}
    ranks = [entry.rank for entry in manifest.entries]
    return {
        "task_type": _text(manifest.method.task_type, _WORD_LIMIT),
        "domain": _text(manifest.domain),
        "entry_count": len(ranks),
        "rank_min": min(ranks, default=None),
        "rank_max": max(ranks, default=None),
    }


def _method(manifest: Manifest | RouterManifest) -> str:
    """Return the projection that made the artifact, or the family of the method that trained it."""
    assert isinstance(manifest, Manifest)
    projections = [item.parameters.get("method") for item in manifest.provenance if item.type == "projection"]
    return shortened(str(projections[-1] if projections and projections[-1] else manifest.method.type), _WORD_LIMIT)


def _recovered_gain(provenance: Sequence[Statement]) -> float | None:
    """Return the newest measurement of the metric ``recovered_gain``."""
    found = [gain for gain in (_gain(statement) for statement in provenance) if gain is not None]
    return found[-1] if found else None


def _gain(statement: Statement) -> float | None:
    for result in statement.byproducts.get("results", ()):
        if result["metric"] == "recovered_gain":
            return _number(result["value"])
    return None


def _base_model(base: BaseModel) -> Row:
    stack = base.stacks[0]
    return {
        "label": shortened(base.id),
        "revision": shortened(base.revision or "", _WORD_LIMIT),
        "architecture": shortened(base.architecture, _WORD_LIMIT),
        "model_type": shortened(base.model_type, _WORD_LIMIT),
        "config_digest": base.config_digest,
        "weights_digest": base.weights_digest,
        "vocab_size": base.vocab_size,
        "hidden_size": stack.hidden_size,
        "num_layers": stack.num_layers,
        "num_attention_heads": stack.num_attention_heads,
        "num_key_value_heads": stack.num_key_value_heads,
        "head_dim": stack.head_dim,
        "intermediate_size": stack.intermediate_size,
    }


def _edges(manifest: Manifest | RouterManifest, digest: str) -> list[Row]:
    parents = {(item.digest, item.relation) for item in (manifest.lineage.parents if manifest.lineage else ())}
    if isinstance(manifest, RouterManifest):
        parents |= {(domain.adapter, DISPATCHES_TO) for domain in manifest.domains if domain.adapter is not None}
    return [
        {"child_digest": digest, "parent_digest": parent, "relation": relation}
        for parent, relation in sorted(parents)
        if parent != digest
    ]


def _adapter_records(manifest: Manifest) -> dict[type[Table], list[Row]]:
    return {
        EntryRow: [_entry(position, entry) for position, entry in enumerate(manifest.entries)],
        RoleRow: _roles(manifest.entries),
        ProjectionRow: [_projection(*item, manifest) for item in _statements(manifest, "projection")],
        TrainingRow: [_training(*item) for item in _statements(manifest, "training")],
        EvaluationRow: _evaluations(manifest.provenance),
    }


def _entry(position: int, entry: Entry) -> Row:
    return {
        "position": position,
        "stack": entry.stack,
        "layer": entry.layer,
        "role": entry.role,
        "expert": entry.expert,
        "rank": entry.rank,
        "in_features": entry.in_features,
        "out_features": entry.out_features,
        "scaling": entry.scaling,
    }


def _roles(entries: Sequence[Entry]) -> list[Row]:
    """Return the entries in short: one row for each (stack, role, rank)."""
    groups: dict[tuple[str, str, int], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.stack or "", entry.role, entry.rank), []).append(entry)
    return [
        {
            "stack": stack,
            "role": role,
            "rank": rank,
            "entry_count": len(group),
            "layer_min": min((entry.layer for entry in group if entry.layer is not None), default=None),
            "layer_max": max((entry.layer for entry in group if entry.layer is not None), default=None),
        }
        for (stack, role, rank), group in sorted(groups.items())
    ]


def _statements(manifest: Manifest, kind: str) -> Iterator[tuple[int, Statement]]:
    return ((position, item) for position, item in enumerate(manifest.provenance) if item.type == kind)


def _projection(position: int, statement: Statement, manifest: Manifest) -> Row:
    by_name = {str(item["name"]): str(item["digest"]) for item in statement.materials}
    parents = [parent.digest for parent in manifest.parents if parent.relation == "projected_from"]
    return {
        "position": position,
        "method": shortened(str(statement.parameters["method"]), _WORD_LIMIT),
        "source_digest": by_name.get("source adapter", parents[0] if parents else None),
        "source_base": _text(_setting(statement, "source_base")),
        "source_config_digest": by_name.get("source base config"),
        "target_config_digest": by_name.get("target base config", manifest.base_model.config_digest),
        "energy_kept": _number(statement.byproducts.get("energy_share")),
        "rank_in": _integer(_setting(statement, "rank_in")),
        "rank_out": max((entry.rank for entry in manifest.entries), default=None),
        "recovered_gain": _recovered_gain(manifest.provenance[position:]),
        "created_at": _time(statement.created_at),
        "parameters": _plain(statement.parameters),
    }


def _setting(statement: Statement, name: str) -> Any:
    return statement.parameters.get("settings", {}).get(name)


def _training(position: int, statement: Statement) -> Row:
    by_name = {str(item["name"]): str(item["digest"]) for item in statement.materials}
    data = [digest for name, digest in by_name.items() if "data" in name.split()]
    return {
        "position": position,
        "builder": _text(f"{statement.builder['name']} {statement.builder['version']}"),
        "data_digest": data[0] if data else None,
        "seed": _integer(statement.parameters.get("seed")),
        "steps": _integer(statement.parameters.get("steps")),
        "final_loss": _number(statement.byproducts.get("eval_loss_after")),
        "created_at": _time(statement.created_at),
        "parameters": _plain(statement.parameters),
        "byproducts": _plain(statement.byproducts),
    }


def _evaluations(provenance: Sequence[Statement]) -> list[Row]:
    """Return one row for each measured number; a number that no float holds is left out."""
    rows: list[Row] = []
    for statement in provenance:
        for result in statement.byproducts.get("results", ()):
            value = _number(result["value"])
            if value is not None:
                rows.append(_evaluation(len(rows), value, result, _time(statement.created_at)))
    return rows


def _evaluation(position: int, value: float, result: Mapping[str, Any], at: datetime.datetime | None) -> Row:
    return {
        "position": position,
        "metric": shortened(str(result["metric"]), _WORD_LIMIT * 2),
        "value": value,
        "low": _number(result.get("low")),
        "high": _number(result.get("high")),
        "sample_count": _integer(result["n"]),
        "data_digest": result["data_digest"],
        "arm": _text(result["arm"], _WORD_LIMIT * 2),
        "created_at": at,
    }


def _router_records(manifest: RouterManifest) -> dict[type[Table], list[Row]]:
    encoder = manifest.encoder
    return {
        RouterRow: [
            {
                "encoder": shortened(encoder.id),
                "encoder_digest": encoder.weights_digest,
                "embedding_size": encoder.dimension,
            }
        ],
        DomainRow: [
            {
                "position": position,
                "name": shortened(domain.name),
                "adapter": domain.adapter,
                "adapter_digest": domain.adapter,
            }
            for position, domain in enumerate(manifest.domains)
        ],
        EvaluationRow: _evaluations(manifest.provenance),
    }


def shortened(text: str, limit: int = LABEL_LIMIT) -> str:
    """Return the beginning of a text; no database takes the character 0, so another stands in its place.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    found = text.replace("\0", "\ufffd")
    return found if len(found) <= limit else found[: limit - 1] + "…"


def _plain(value: Any) -> Any:
    """Return what a decoded manifest holds as what ``json`` writes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _text(text: Any, limit: int = LABEL_LIMIT) -> str | None:
    return shortened(text, limit) if isinstance(text, str) else None


def _number(value: Any) -> float | None:
    """Return a JSON number as a float; none where it is too large for one."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return None


def _integer(value: Any) -> int | None:
    """Return an integer that a column holds; a larger one still stands in the parameters."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS else None


def _time(text: str | None) -> datetime.datetime | None:
    """Read a time; the schema checks its form and not whether there is such a day."""
    try:
        return datetime.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
