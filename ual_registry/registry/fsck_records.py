"""Whether the rows of an artifact say what the manifest in its bytes says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.air.read import open_legal
from ual_registry.digest import Digest
from ual_registry.errors import FormatError
from ual_registry.registry.commands import RECORD_TABLES
from ual_registry.registry.describe import Description, describe
from ual_registry.registry.tables import ArtifactRow, BaseModelRow, LineageRow, Table

__all__ = ["differences"]


def differences(session: Session, path: Path, digest: Digest, size_bytes: int) -> list[str]:
    """Compare the rows of an artifact with those that its bytes would be given today.

    Args:
        session: An open session.
        path: The blob.
        digest: Its digest.
        size_bytes: Its size.

    Returns:
        One line for each table that differs.

    Raises:
        StorageError: The blob cannot be read.
    """
    try:
        found = open_legal(path)
    except FormatError as error:
        return [f"it is not legal AIR: {error.message}"]
    try:
        assert found.manifest is not None  # what ``open_legal`` promises
        description = describe(found.manifest, found.tensors(), digest=str(digest), size_bytes=size_bytes)
    finally:
        found.source.close()
    return list(_differences(session, description))


def _differences(session: Session, expected: Description) -> Iterator[str]:
    artifact = session.scalars(select(ArtifactRow).where(ArtifactRow.digest == expected.digest)).one()
    yield from _other_values(ArtifactRow.__tablename__, _columns(artifact), expected.artifact)
    if expected.base_model is not None:
        base = session.get(BaseModelRow, artifact.base_model_id or 0)
        yield from _other_values(BaseModelRow.__tablename__, _columns(base) if base else {}, expected.base_model)
    for table in RECORD_TABLES:
        key = table.__table__.c.artifact_id
        rows = [dict(row) for row in session.execute(select(table.__table__).where(key == artifact.id)).mappings()]
        wanted = expected.records.get(table, ())
        if _sorted(rows, wanted) != _sorted(wanted, wanted):
            yield f"{table.__tablename__}: {len(rows)} rows differ from the {len(wanted)} of the manifest"
    edges = select(LineageRow.parent_digest, LineageRow.relation).where(LineageRow.child_digest == expected.digest)
    parents = {(edge["parent_digest"], edge["relation"]) for edge in expected.edges}
    if {(digest, relation) for digest, relation in session.execute(edges)} != parents:
        yield "lineage_edges: the parents differ from those of the manifest"


def _columns(row: Table) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


def _other_values(table: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        if found.get(name) != value:
            yield f"{table}.{name}: {found.get(name)!r}, expected {value!r}"


def _sorted(rows: Any, pattern: Any) -> list[str]:
    """Return rows as texts of the columns that are compared, times left out: engines keep them differently."""
    names = sorted(pattern[0]) if pattern else []
    return sorted(repr([row.get(name) for name in names if name != "created_at"]) for row in rows)
