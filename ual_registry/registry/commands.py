"""Adding to the database: a blob, its artifact, and the revision that holds it, in the caller's one transaction.

Rows are written by statements that two processes may run at the same moment: what is there already is left alone, and
the number of a revision is taken from its adapter's row, which stays locked until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now, write_log
from ual_registry.registry.describe import Description, Row
from ual_registry.registry.edges import check_edges
from ual_registry.registry.facets import facets_of, renew_facets
from ual_registry.registry.labels import labels_text
from ual_registry.registry.measured import renew_measured
from ual_registry.registry.record_tables import DomainRow, EvaluationRow, ProjectionRow, RouterRow, TrainingRow
from ual_registry.registry.reference import is_tag_key
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import (
    AdapterRow,
    ArtifactRow,
    BaseModelRow,
    BlobRow,
    EntryRow,
    LineageRow,
    RevisionRow,
    RoleRow,
    Table,
)
from ual_registry.registry.texts import write_text

__all__ = ["RECORD_TABLES", "Added", "add_artifact", "add_blob", "add_edges", "add_revision", "insert_absent"]

RECORD_TABLES: tuple[type[Table], ...] = (
    EntryRow,
    RoleRow,
    ProjectionRow,
    TrainingRow,
    EvaluationRow,
    RouterRow,
    DomainRow,
)
"""What ``describe`` fills for an artifact, and what goes when its bytes do."""

_BASE_KEY = ("config_digest", "label", "revision", "architecture", "model_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A revision that holds an artifact under a name.

    Attributes:
        revision_id: Its row number.
        number: Its number.
        is_new: Whether it was made now.
    """

    revision_id: int
    number: int
    is_new: bool


def insert_absent(session: Session, table: type[Table], row: Mapping[str, Any]) -> bool:
    """Insert a row where none with its key is there, also when two processes do so at once; tell whether it was."""
    statement = _insertion(session, table).on_conflict_do_nothing()
    counted = {"preserve_rowcount": True}  # otherwise PostgreSQL's is not told
    return bool(cast("CursorResult[Any]", session.execute(statement, row, execution_options=counted)).rowcount)


def _insertion(session: Session, table: type[Table]) -> postgresql.Insert | sqlite.Insert:
    return _INSERTIONS[session.get_bind().dialect.name, table.__tablename__]


_INSERTIONS: dict[tuple[str, str], postgresql.Insert | sqlite.Insert] = {
    (dialect, name): make(table)
    for dialect, make in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
    for name, table in Table.metadata.tables.items()
}
"""Made once: what is built of tables alone is compiled once, and runs in half the time."""


def add_blob(session: Session, digest: str, size_bytes: int) -> None:
    """Note that bytes have their place in the store.

    The row is touched even where it is there, so that who deletes blobs waits for this transaction, or this one for it.
    """
    row = {"digest": digest, "size_bytes": size_bytes, "stored_at": now()}
    insertion = _insertion(session, BlobRow)
    touched = {"size_bytes": insertion.excluded.size_bytes}
    session.execute(insertion.on_conflict_do_update(index_elements=["digest"], set_=touched), row)


def add_artifact(session: Session, description: Description) -> int:
    """Describe stored bytes and return their row number; what is known already stays, a tombstone becomes alive.

    Raises:
        RegistryConflictError: A parent of it is known as made from it.
    """
    known = session.execute(_KNOWN, {"digest": description.digest}).first()
    if known is not None and known.deleted_at is None:
        return int(known.id)
    base_id = _base_model(session, description.base_model) if description.base_model else None
    columns = {**description.artifact, "base_model_id": base_id, "added_at": now(), "deleted_at": None}
    made = _insert_artifact(session, columns) if known is None else _revive(session, int(known.id), columns)
    if made is None:  # another process made it in the same moment
        return int(session.execute(_KNOWN, {"digest": description.digest}).one().id)
    for table, rows in description.records.items():
        session.execute(_INSERT[table], [{**row, "artifact_id": made} for row in rows])
    add_edges(session, description.digest, description.edges)
    return made


def add_edges(session: Session, child: str, edges: Sequence[Row]) -> None:
    """Note what an artifact was made from, as rows of ``LineageRow``; what is known already stays.

    Raises:
        RegistryConflictError: A parent of it is known as made from it.
    """
    check_edges(session, child, edges)
    for edge in edges:
        insert_absent(session, LineageRow, edge)


_KNOWN = select(ArtifactRow.id, ArtifactRow.deleted_at).where(ArtifactRow.digest == bindparam("digest"))
_INSERT = {table: Table.metadata.tables[table.__tablename__].insert() for table in RECORD_TABLES}


def _insert_artifact(session: Session, columns: Row) -> int | None:
    statement = _insertion(session, ArtifactRow).on_conflict_do_nothing().returning(ArtifactRow.id)
    return session.execute(statement, columns).scalar()


def _revive(session: Session, artifact_id: int, columns: Row) -> int | None:
    is_dead = (ArtifactRow.id == artifact_id, ArtifactRow.deleted_at.is_not(None))
    statement = update(ArtifactRow).where(*is_dead).values(columns).returning(ArtifactRow.id)
    revived = session.execute(statement).scalar()
    if revived is not None:
        for table in RECORD_TABLES:  # what was left of it is written anew
            rows = Table.metadata.tables[table.__tablename__]
            session.execute(rows.delete().where(rows.c.artifact_id == artifact_id))
        renew_facets(session, RevisionRow.artifact_id == artifact_id)
    return revived


def _base_model(session: Session, row: Row) -> int:
    """Return the row number of a base model; it is made where it is new."""
    key = {name: row[name] for name in _BASE_KEY}
    found = session.execute(_KNOWN_BASE, key).scalar()
    if found is None:
        insert_absent(session, BaseModelRow, row)
        found = session.execute(_KNOWN_BASE, key).scalar_one()
    return found


_KNOWN_BASE = select(BaseModelRow.id).where(
    *(column == bindparam(column.key) for column in BaseModelRow.__table__.columns if column.key in _BASE_KEY)
)


def add_revision(
    session: Session, name: str, artifact_id: int, description: Description, tags: Mapping[str, str] | None = None
) -> Added:
    """Give an artifact the next number under a name; the same bytes under the same name keep their number.

    Args:
        session: An open session that writes.
        name: The adapter; made on first use.
        artifact_id: The artifact.
        description: What is known of it.
        tags: Tags of a new revision, beside those that the manifest brings; a known one keeps its own.
    """
    adapter = _lock_adapter(session, name)
    ids = {"adapter_id": adapter.id, "artifact_id": artifact_id}
    known = session.execute(_KNOWN_REVISION, ids).first()
    if known is not None:
        return Added(revision_id=known.id, number=known.number, is_new=False)
    number = session.execute(_TAKE_NUMBER, {"wanted": adapter.id}).scalar_one()
    # A tag of the manifest that is too long for one is left out.
    kept = {tag: "" for tag in description.tags if is_tag_key(tag)} | dict(tags or {})
    shown = labels_text(adapter.owner, (), kept, is_sqlite=is_sqlite(session.connection()))
    row = {**ids, **facets_of(session, artifact_id), "labels": shown, "adapter_name": name, "number": number}
    revision_id = session.execute(_INSERT_REVISION, {**row, "created_at": now()}).scalar_one()
    if kept:
        own = {"revision_id": revision_id, "adapter_name": name, "number": number}
        session.execute(_INSERT_TAGS, [{**own, "key": key, "value": value} for key, value in kept.items()])
    if description.records.get(EvaluationRow):
        renew_measured(session, RevisionRow.id == revision_id)
    content = [description.artifact[column] for column in ("title", "domain", "description")]
    labels = [part for key in sorted(kept) for part in (key, kept[key])]
    write_text(session, revision_id, [name, adapter.owner, adapter.description, *content, *labels])
    write_log(session, "add", name, digest=description.digest, number=number, **({"tags": dict(tags)} if tags else {}))
    return Added(revision_id=revision_id, number=number, is_new=True)


_ADAPTER = (
    select(AdapterRow.id, AdapterRow.owner, AdapterRow.description)
    .where(AdapterRow.name == bindparam("name"))
    .with_for_update()
)
_KNOWN_REVISION = select(RevisionRow.id, RevisionRow.number).where(
    RevisionRow.adapter_id == bindparam("adapter_id"), RevisionRow.artifact_id == bindparam("artifact_id")
)
_TAKE_NUMBER = (
    update(Table.metadata.tables["adapters"])
    .where(AdapterRow.id == bindparam("wanted"))
    .values(newest=AdapterRow.newest + 1)
    .returning(AdapterRow.newest)
)
_INSERT_TAGS = Table.metadata.tables["tags"].insert()
_INSERT_REVISION = Table.metadata.tables["revisions"].insert().returning(RevisionRow.id)


def _lock_adapter(session: Session, name: str) -> Any:
    """Keep other writers from an adapter until the end; it is made where it is new."""
    found = session.execute(_ADAPTER, {"name": name}).first()
    if found is None:
        insert_absent(session, AdapterRow, {"name": name, "newest": 0, "created_at": now()})
        found = session.execute(_ADAPTER, {"name": name}).one()
    return found
