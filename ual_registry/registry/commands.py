"""Adding to the database: blobs and their artifacts, many at once, in the caller's one transaction.

Rows are written by statements that two processes may run at the same moment: what is there already is left alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now
from ual_registry.registry.describe import Description, Row
from ual_registry.registry.edges import check_edges
from ual_registry.registry.facets import renew_facets
from ual_registry.registry.record_tables import DomainRow, EvaluationRow, ProjectionRow, RouterRow, TrainingRow
from ual_registry.registry.tables import (
    ArtifactRow,
    BaseModelRow,
    BlobRow,
    EntryRow,
    LineageRow,
    RevisionRow,
    RoleRow,
    Table,
)

__all__ = [
    "RECORD_TABLES",
    "add_artifacts",
    "add_blobs",
    "add_edges",
    "base_model_id",
    "insert_absent",
    "insertion",
]

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


def insert_absent(session: Session, table: type[Table], row: Mapping[str, Any]) -> bool:
    """Insert a row where none with its key is there, also when two processes do so at once; tell whether it was."""
    statement = insertion(session, table).on_conflict_do_nothing()
    counted = {"preserve_rowcount": True}  # otherwise PostgreSQL's is not told
    return bool(cast("CursorResult[Any]", session.execute(statement, row, execution_options=counted)).rowcount)


def insertion(session: Session, table: type[Table]) -> postgresql.Insert | sqlite.Insert:
    """Return the engine's own insertion into a table, which can say what to do where a row is there."""
    return _INSERTIONS[session.get_bind().dialect.name, table.__tablename__]


_INSERTIONS: dict[tuple[str, str], postgresql.Insert | sqlite.Insert] = {
    (dialect, name): make(table)
    for dialect, make in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
    for name, table in Table.metadata.tables.items()
}
"""Made once: what is built of tables alone is compiled once, and runs in half the time."""


def add_blobs(session: Session, sizes: Mapping[str, int]) -> None:
    """Note that bytes have their place in the store.

    The rows are touched even where they are there, so that who deletes blobs waits for this transaction, or this one
    for it; in one order, so that no two that add wait for each other.

    Args:
        session: An open session that writes.
        sizes: Sizes in bytes by digest.
    """
    inserted = insertion(session, BlobRow)
    touched = {"size_bytes": inserted.excluded.size_bytes}
    rows = [{"digest": digest, "size_bytes": sizes[digest], "stored_at": now()} for digest in sorted(sizes)]
    session.execute(inserted.on_conflict_do_update(index_elements=["digest"], set_=touched), rows)


def add_artifacts(
    session: Session, descriptions: Iterable[Description], *, added_at: Mapping[str, datetime.datetime] | None = None
) -> dict[str, int]:
    """Describe stored bytes and return their row numbers by digest.

    What is known already stays, a tombstone becomes alive.

    Args:
        session: An open session that writes.
        descriptions: What the bytes say of themselves.
        added_at: When they were first added anywhere, by digest; the others are added now.

    Raises:
        RegistryConflictError: A parent of one is known as made from it.
    """
    wanted = {own.digest: own for own in descriptions}
    rows = session.execute(_KNOWN, {"digests": list(wanted)}).all()
    known = {row.digest: int(row.id) for row in rows if row.deleted_at is None}
    dead = {row.digest: int(row.id) for row in rows if row.deleted_at is not None}
    new = {digest: own for digest, own in wanted.items() if digest not in known}
    made = _make(session, new, dead, added_at or {}) if new else {}
    _write_records(session, {made[digest]: own for digest, own in new.items() if digest in made})
    others = [digest for digest in new if digest not in made]  # another process made them in the same moment
    late = session.execute(_KNOWN, {"digests": others}).all() if others else ()
    return known | made | {row.digest: int(row.id) for row in late}


_KNOWN = select(ArtifactRow.digest, ArtifactRow.id, ArtifactRow.deleted_at).where(
    ArtifactRow.digest.in_(bindparam("digests", expanding=True))
)


def _make(
    session: Session, new: Mapping[str, Description], dead: Mapping[str, int], added_at: Mapping[str, datetime.datetime]
) -> dict[str, int]:
    """Write the rows of artifacts, and return the numbers of those that nobody else wrote meanwhile."""
    bases = _base_models(session, [own.base_model for own in new.values() if own.base_model])
    moment, fresh, made = now(), [], {}
    for digest, own in new.items():
        base_id = bases[_key(own.base_model)] if own.base_model else None
        added = added_at.get(digest, moment)
        columns = {**own.artifact, "base_model_id": base_id, "added_at": added, "deleted_at": None}
        if digest not in dead:
            fresh.append(columns)
        elif _revive(session, dead[digest], columns):
            made[digest] = dead[digest]
    if fresh:
        statement = insertion(session, ArtifactRow).on_conflict_do_nothing()
        rows = session.execute(statement.returning(ArtifactRow.digest, ArtifactRow.id), fresh)
        made |= {row.digest: int(row.id) for row in rows}
    return made


def _write_records(session: Session, made: Mapping[int, Description]) -> None:
    for table in RECORD_TABLES:
        records = ((number, own.records.get(table, ())) for number, own in made.items())
        rows = [{**row, "artifact_id": number} for number, found in records for row in found]
        if rows:
            session.execute(_INSERT[table], rows)
    for own in made.values():
        add_edges(session, own.digest, own.edges)


_INSERT = {table: Table.metadata.tables[table.__tablename__].insert() for table in RECORD_TABLES}


def add_edges(session: Session, child: str, edges: Sequence[Row], *, is_claim: bool = False) -> None:
    """Note what an artifact was made from, as rows of ``LineageRow``; what is known already stays.

    Args:
        session: An open session that writes.
        child: The artifact.
        edges: The rows.
        is_claim: Whether they are not in bytes whose digest was checked.

    Raises:
        RegistryConflictError: A parent of it is known as made from it.
    """
    check_edges(session, child, edges, is_claim=is_claim)
    for edge in edges:
        insert_absent(session, LineageRow, edge)


def _revive(session: Session, artifact_id: int, columns: Row) -> bool:
    """Make a tombstone alive, and tell whether it still was one."""
    is_dead = (ArtifactRow.id == artifact_id, ArtifactRow.deleted_at.is_not(None))
    statement = update(ArtifactRow).where(*is_dead).values(columns).returning(ArtifactRow.id)
    if session.execute(statement).scalar() is None:
        return False
    for table in RECORD_TABLES:  # what was left of it is written anew
        rows = Table.metadata.tables[table.__tablename__]
        session.execute(rows.delete().where(rows.c.artifact_id == artifact_id))
    renew_facets(session, RevisionRow.artifact_id == artifact_id)
    return True


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _BASE_KEY)


def _base_models(session: Session, rows: Iterable[Row]) -> dict[tuple[Any, ...], int]:
    return {key: base_model_id(session, row) for key, row in {_key(row): row for row in rows}.items()}


def base_model_id(session: Session, row: Row) -> int:
    """Return the row number of a base model; it is made where it is new."""
    key = {name: row[name] for name in _BASE_KEY}
    found = session.execute(_KNOWN_BASE, key).scalar()
    if found is None:
        insert_absent(session, BaseModelRow, row)
        found = session.execute(_KNOWN_BASE, key).scalar_one()
    return int(found)


_KNOWN_BASE = select(BaseModelRow.id).where(
    *(column == bindparam(column.key) for column in BaseModelRow.__table__.columns if column.key in _BASE_KEY)
)
