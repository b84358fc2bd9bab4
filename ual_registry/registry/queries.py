"""What a reference means: the artifact or the revision, or an error that says what there is instead."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session, contains_eager

from ual_registry.errors import RegistryNotFoundError
from ual_registry.registry.reference import Reference
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, RevisionRow

__all__ = ["find_digest", "find_revision", "unknown_adapter"]


def find_digest(session: Session, reference: Reference) -> str:
    """Return the digest of what a reference names.

    Raises:
        RegistryNotFoundError: There is no such artifact, adapter, revision or alias.
    """
    if reference.digest is None:
        return find_revision(session, reference).artifact.digest
    digest = str(reference.digest)
    known = select(ArtifactRow.id).where(ArtifactRow.digest == digest, ArtifactRow.deleted_at.is_(None))
    if session.scalar(known) is None:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})
    return digest


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
