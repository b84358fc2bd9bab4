"""What stays of an artifact whose bytes are deleted: its row, its revisions and its lineage."""

from __future__ import annotations

import datetime

from sqlalchemy import Select, delete, exists, or_, select, update
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now, write_log
from ual_registry.registry.commands import RECORD_TABLES, insert_absent
from ual_registry.registry.facets import renew_facets
from ual_registry.registry.queries import deleted
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, BlobRow, RevisionRow

__all__ = ["bury", "check_held", "hidden", "lock_blob", "revisions_of"]


def check_held(session: Session, digest: str) -> int:
    """Return the size of an artifact's bytes.

    Raises:
        RegistryNotFoundError: Its bytes were deleted.
    """
    columns = (ArtifactRow.size_bytes, ArtifactRow.deleted_at)
    row = session.execute(select(*columns).where(ArtifactRow.digest == digest)).one()
    if row.deleted_at is not None:
        raise deleted(digest, row.deleted_at)
    return int(row.size_bytes)


def lock_blob(session: Session, digest: str) -> None:
    """Let whoever adds the same bytes wait for the open transaction, or this one for them; a row is made if needed."""
    insert_absent(session, BlobRow, {"digest": digest, "size_bytes": 0, "stored_at": now()})
    session.execute(select(BlobRow.digest).where(BlobRow.digest == digest).with_for_update()).all()


def hidden(before: datetime.datetime, digest: str | None = None) -> Select[str, int]:
    """Select the artifacts all of whose revisions were hidden before a moment, and that no alias points to."""
    own = RevisionRow.artifact_id == ArtifactRow.id
    shown = exists().where(own, or_(RevisionRow.yanked_at.is_(None), RevisionRow.yanked_at > before))
    pointed_at = exists().where(own, AliasRow.revision_id == RevisionRow.id)
    statement = select(ArtifactRow.digest, ArtifactRow.size_bytes).where(
        ArtifactRow.deleted_at.is_(None), exists().where(own), ~shown, ~pointed_at
    )
    return statement.where(ArtifactRow.digest == digest) if digest else statement.order_by(ArtifactRow.digest)


def revisions_of(session: Session, digest: str) -> list[tuple[str, int]]:
    """Return name and number of every revision that holds an artifact, sorted."""
    statement = select(RevisionRow.adapter_name, RevisionRow.number).join(RevisionRow.artifact)
    order = (RevisionRow.adapter_name, RevisionRow.number)
    return [
        (name, number)
        for name, number in session.execute(statement.where(ArtifactRow.digest == digest).order_by(*order))
    ]


def bury(session: Session, digest: str, before: datetime.datetime) -> tuple[str, ...] | None:
    """Leave a tombstone of an artifact: its row, revisions and lineage stay; ``None`` where it is in use again."""
    lock_blob(session, digest)  # the same locks in the same order as adding takes them
    names = revisions_of(session, digest)
    locked = select(AdapterRow.id).where(AdapterRow.name.in_({name for name, _ in names})).order_by(AdapterRow.id)
    session.execute(locked.with_for_update()).all()
    if session.execute(hidden(before, digest)).first() is None:
        return None
    artifact_id = session.execute(select(ArtifactRow.id).where(ArtifactRow.digest == digest)).scalar_one()
    for table in RECORD_TABLES:
        session.execute(delete(table).where(table.__table__.c.artifact_id == artifact_id))
    session.execute(delete(BlobRow).where(BlobRow.digest == digest))
    gone = {"deleted_at": now(), "targets": None, "measurements": None}
    session.execute(update(ArtifactRow).where(ArtifactRow.id == artifact_id).values(gone))
    renew_facets(session, RevisionRow.artifact_id == artifact_id)
    for name, number in names:
        write_log(session, "gc", name, digest=digest, number=number)
    return tuple(f"{name}@{number}" for name, number in names)
