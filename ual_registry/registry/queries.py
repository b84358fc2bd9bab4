"""What a reference means: the artifact or the revision, or an error that says what there is instead."""

from __future__ import annotations

import datetime
import functools

from sqlalchemy import BigInteger, Connection, String, bindparam, func, select
from sqlalchemy.orm import Session, contains_eager

from ual_registry.errors import RegistryNotFoundError
from ual_registry.registry.reference import Reference
from ual_registry.registry.statements import Statement, is_sqlite, prepared
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, RevisionRow

__all__ = ["deleted", "find_digest", "find_revision", "unknown_adapter"]


def find_digest(connection: Connection, reference: Reference) -> str:
    """Return the digest of what a reference names.

    Raises:
        RegistryNotFoundError: There is no such artifact, adapter, revision or alias.
    """
    named = {"alias": reference.alias, "number": reference.number, "digest": str(reference.digest or "") or None}
    by = next((part for part, value in named.items() if value is not None), "newest")
    asked = {"name": reference.name} | {part: value for part, value in named.items() if value is not None}
    rows = _digest_statement(by, is_sqlite=is_sqlite(connection)).rows(connection, **asked)
    if rows:
        return str(rows[0][0])
    if reference.digest is not None:
        raise _unknown_digest(connection, str(reference.digest))
    with Session(connection) as session:
        return find_revision(session, reference).artifact.digest  # which says what there is instead


@functools.cache
def _digest_statement(by: str, *, is_sqlite: bool) -> Statement:
    """Return the statement that finds a digest by a digest, or by a name and what else is given.

    Subqueries leave the database no choice: a join may look every artifact of a name up before it takes the newest.
    """
    if by == "digest":
        known = ArtifactRow.digest == bindparam("digest", type_=String)
        return prepared(select(ArtifactRow.digest).where(known, ArtifactRow.deleted_at.is_(None)), is_sqlite=is_sqlite)
    adapter = select(AdapterRow.id).where(AdapterRow.name == bindparam("name", type_=String)).scalar_subquery()
    chosen = select(RevisionRow.artifact_id).where(RevisionRow.adapter_id == adapter)
    if by == "alias":
        named = AliasRow.name == bindparam("alias", type_=String)
        pointed = select(AliasRow.revision_id).where(AliasRow.adapter_id == adapter, named).scalar_subquery()
        chosen = chosen.where(RevisionRow.id == pointed)
    elif by == "number":
        chosen = chosen.where(RevisionRow.number == bindparam("number", type_=BigInteger))
    else:
        chosen = chosen.where(RevisionRow.yanked_at.is_(None)).order_by(RevisionRow.number.desc()).limit(1)
    statement = select(ArtifactRow.digest).where(ArtifactRow.id == chosen.scalar_subquery())
    return prepared(statement, is_sqlite=is_sqlite)


def find_revision(session: Session, reference: Reference) -> RevisionRow:
    """Return the revision that a reference by name means.

    Raises:
        RegistryNotFoundError: There is no such adapter, revision or alias.
    """
    adapter = session.scalar(select(AdapterRow).where(AdapterRow.name == reference.name))
    if adapter is None:
        raise unknown_adapter(session, str(reference.name))
    statement = select(RevisionRow).join(RevisionRow.artifact).options(contains_eager(RevisionRow.artifact))
    statement = statement.where(RevisionRow.adapter_id == adapter.id)
    if reference.alias is not None:
        statement = statement.join(AliasRow, AliasRow.revision_id == RevisionRow.id)
        statement = statement.where(AliasRow.adapter_id == adapter.id, AliasRow.name == reference.alias)
    elif reference.number is not None:
        statement = statement.where(RevisionRow.number == reference.number)
    else:
        statement = statement.where(RevisionRow.yanked_at.is_(None))
    found = session.scalar(statement.order_by(RevisionRow.number.desc()).limit(1))
    if found is None:
        raise _unknown_revision(session, adapter, reference)
    return found


def _unknown_digest(connection: Connection, digest: str) -> RegistryNotFoundError:
    buried = connection.scalar(select(ArtifactRow.deleted_at).where(ArtifactRow.digest == digest))
    if buried is not None:
        return deleted(digest, buried)
    return RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})


def deleted(digest: str, at: datetime.datetime) -> RegistryNotFoundError:
    """Return the error about an artifact whose bytes were deleted."""
    return RegistryNotFoundError(
        f"{digest}: its bytes were deleted on {at:%Y-%m-%d}, a tombstone is left",
        code="deleted",
        context={"digest": digest},
        hint="'ual log' tells why; adding the same bytes brings it back",
    )


def unknown_adapter(session: Session, name: str) -> RegistryNotFoundError:
    """Return the error about a name that no adapter has, with some that are had."""
    near = session.scalars(select(AdapterRow.name).order_by(AdapterRow.name).limit(8)).all()
    known = f"this registry holds: {', '.join(near)}" if near else "this registry is empty: see 'ual add'"
    return RegistryNotFoundError(f"adapter {name!r}: not in this registry", context={"name": name}, hint=known)


def _unknown_revision(session: Session, adapter: AdapterRow, reference: Reference) -> RegistryNotFoundError:
    newest = session.scalar(select(func.max(RevisionRow.number)).where(RevisionRow.adapter_id == adapter.id))
    if reference.alias is None and reference.number is None and newest is not None:
        return RegistryNotFoundError(
            f"adapter {adapter.name!r}: every revision is yanked",
            context={"name": adapter.name},
            hint=f"name one by its number, such as {adapter.name}@{newest}, or run 'ual yank REF --undo'",
        )
    if reference.alias is None:
        message = f"adapter {adapter.name!r} has no revision {reference.number} (newest: {newest})"
        return RegistryNotFoundError(message, context={"name": adapter.name})
    names = session.scalars(
        select(AliasRow.name).where(AliasRow.adapter_id == adapter.id).order_by(AliasRow.name)
    ).all()
    message = f"adapter {adapter.name!r} has no alias {reference.alias!r} (known: {', '.join(names) or 'none'})"
    return RegistryNotFoundError(message, context={"name": adapter.name, "alias": reference.alias})
