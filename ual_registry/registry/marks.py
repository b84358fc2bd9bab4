"""What may change after a revision was made: aliases, tags, yanks, and what is said of an adapter.

Each function works in the caller's transaction, locks the adapter's row first, so that two processes take turns, and
writes the audit log. What changes nothing is not logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryConflictError, RegistryError, RegistryNotFoundError
from ual_registry.registry.audit import now, write_log
from ual_registry.registry.labels import renew_labels
from ual_registry.registry.queries import deleted, find_revision
from ual_registry.registry.records import AdapterEdit, AliasMove, TagChange, YankResult
from ual_registry.registry.reference import Reference
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, RevisionRow, TagRow
from ual_registry.registry.texts import renew_texts

__all__ = ["AliasOrder", "change_tags", "delete_alias", "edit_adapter", "move_alias", "yank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasOrder:
    """Under which conditions an alias is changed, and what becomes of its protection.

    Attributes:
        expected: The revision that it must point to now (0: none); ``None`` leaves that open.
        protect: Whether it shall be protected; ``None`` leaves that as it is.
        force: Whether a protected alias may be changed.
        why: The reason; needed where a protected alias is changed.
    """

    expected: int | None = None
    protect: bool | None = None
    force: bool = False
    why: str | None = None


def move_alias(
    session: Session, name: str, alias: str, reference: Reference | None, order: AliasOrder | None = None
) -> AliasMove:
    """Point an alias at a revision, protect it, or free it.

    Args:
        session: An open session that writes.
        name: The adapter.
        alias: The alias.
        reference: The revision that it shall point to; ``None`` leaves it where it is.
        order: The conditions.

    Raises:
        RegistryNotFoundError: There is no such adapter, revision or alias, or the bytes of the revision are deleted.
        RegistryConflictError: The alias does not point to the expected revision.
        RegistryError: The alias is protected.
    """
    order = order or AliasOrder()
    adapter_id = _lock(session, name)
    row, before = _alias(session, adapter_id, name, alias, order)
    target = find_revision(session, reference or Reference(name=name, alias=alias))
    if target.number != before:
        _check_bytes(target)
    is_protected = bool(row and row.is_protected) if order.protect is None else order.protect
    move = AliasMove(name=name, alias=alias, previous=before, number=target.number, is_protected=is_protected)
    if row is None:
        row = AliasRow(adapter_id=adapter_id, name=alias, is_protected=False)
        session.add(row)
    elif (before, row.is_protected) == (target.number, is_protected):
        return move
    else:
        _check_protection(row, name, order)
    touched = {row.revision_id, target.id}
    row.revision_id, row.is_protected = target.id, is_protected
    row.moved_at = row.moved_at if before == target.number else now()
    renew_labels(session, RevisionRow.id.in_(touched - {None}))
    _log_alias(session, move, order)
    return move


def delete_alias(session: Session, name: str, alias: str, order: AliasOrder | None = None) -> AliasMove:
    """Delete an alias.

    Raises:
        RegistryNotFoundError: There is no such adapter or alias.
        RegistryConflictError: The alias does not point to the expected revision.
        RegistryError: The alias is protected.
    """
    order = order or AliasOrder()
    row, before = _alias(session, _lock(session, name), name, alias, order)
    if row is None:
        find_revision(session, Reference(name=name, alias=alias))  # tells which ones there are
        raise AssertionError  # the adapter's row is locked
    _check_protection(row, name, order)
    session.delete(row)
    renew_labels(session, RevisionRow.id == row.revision_id)
    move = AliasMove(name=name, alias=alias, previous=before, number=None)
    _log_alias(session, move, order)
    return move


def _lock(session: Session, name: str) -> int:
    """Keep other writers from an adapter until the end of the transaction; return its row number."""
    statement = select(AdapterRow.id).where(AdapterRow.name == name).with_for_update()
    found = session.scalar(statement)
    if found is None:
        find_revision(session, Reference(name=name))  # tells which ones there are
        raise RegistryNotFoundError(f"adapter {name!r}: not in this registry", context={"name": name})
    return found


def _alias(
    session: Session, adapter_id: int, name: str, alias: str, order: AliasOrder
) -> tuple[AliasRow | None, int | None]:
    """Return the row of an alias and the number that it points to, and compare that with the expected one."""
    row = session.get(AliasRow, (adapter_id, alias))
    before = session.get_one(RevisionRow, row.revision_id).number if row else None
    if order.expected is not None and order.expected != (before or 0):
        found = f"on revision {before}" if before else "nowhere"
        raise RegistryConflictError(
            f"adapter {name!r} has alias {alias!r} {found} (expected revision {order.expected})",
            context={"name": name, "alias": alias, "found": before, "expected": order.expected},
            hint="read it again and retry",
        )
    return row, before


def _check_protection(row: AliasRow, name: str, order: AliasOrder) -> None:
    if row.is_protected and not (order.force and order.why and order.why.strip()):
        raise RegistryError(
            f"adapter {name!r} has the protected alias {row.name!r}: it changes only by force and with a reason",
            code="protected",
            context={"name": name, "alias": row.name},
            hint="ask who protected it ('ual log' tells), or change it by "
            f"'ual alias {name} {row.name} REV --force --why TEXT'",
        )


def _check_bytes(revision: RevisionRow) -> None:
    """Refuse to let a name mean a revision whose bytes are deleted: whoever asked for the name would get nothing."""
    if revision.artifact.deleted_at is not None:
        raise deleted(revision.artifact.digest, revision.artifact.deleted_at)


def _log_alias(session: Session, move: AliasMove, order: AliasOrder) -> None:
    detail: dict[str, Any] = {"alias": move.alias, "previous": move.previous, "number": move.number}
    if order.protect is not None:
        detail["is_protected"] = move.is_protected
    if order.force:
        detail["is_forced"] = True
    if order.why:
        detail["why"] = order.why
    write_log(session, "alias", move.name, **detail)


def _revision(session: Session, reference: Reference) -> RevisionRow:
    """Lock and return the revision that a reference means; a digest must mean one alone."""
    if reference.name is None:
        reference = _only_revision(session, reference)
    _lock(session, str(reference.name))
    return find_revision(session, reference)


def _only_revision(session: Session, reference: Reference) -> Reference:
    statement = select(RevisionRow.adapter_name, RevisionRow.number).join(RevisionRow.artifact)
    digest = str(reference.digest)
    found = session.execute(statement.where(ArtifactRow.digest == digest)).all()
    if not found:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})
    if len(found) > 1:
        names = ", ".join(f"{name}@{number}" for name, number in found[:8])
        raise RegistryError(
            f"{digest}: is the digest of {len(found)} revisions, expected one",
            code="ambiguous-reference",
            context={"digest": digest},
            hint=f"name one of them: {names}",
        )
    return Reference(name=found[0].adapter_name, number=found[0].number)


def change_tags(
    session: Session, reference: Reference, tags: Mapping[str, str], *, remove: Sequence[str] = ()
) -> TagChange:
    """Set and remove tags of a revision; a key that is removed and not there is no mistake.

    Args:
        session: An open session that writes.
        reference: The revision.
        tags: Keys and values to set; the value is empty where there is none.
        remove: Keys to remove.

    Raises:
        RegistryError: There is no such revision, or the digest means several.
    """
    revision = _revision(session, reference)
    statement = select(TagRow.key, TagRow.value).where(TagRow.revision_id == revision.id)
    before = {row.key: row.value for row in session.execute(statement)}
    after = {key: value for key, value in before.items() if key not in remove} | dict(tags)
    if after != before:
        session.execute(delete(TagRow).where(TagRow.revision_id == revision.id))
        own = {"revision_id": revision.id, "adapter_name": revision.adapter_name, "number": revision.number}
        rows = [{**own, "key": key, "value": value} for key, value in after.items()]
        if rows:
            session.execute(insert(TagRow), rows)
        renew_texts(session, RevisionRow.id == revision.id)
        renew_labels(session, RevisionRow.id == revision.id)
        gone = sorted(before.keys() - after.keys())
        new = {key: after[key] for key in sorted(after) if before.get(key) != after[key]}
        write_log(session, "tag", revision.adapter_name, number=revision.number, set=new, removed=gone)
    return TagChange(name=revision.adapter_name, number=revision.number, tags=dict(sorted(after.items())))


def yank(session: Session, reference: Reference, *, why: str | None) -> YankResult:
    """Hide a revision from lists and searches, or show it again.

    Args:
        session: An open session that writes.
        reference: The revision.
        why: The reason; ``None`` shows it again.

    Raises:
        RegistryError: There is no such revision, the digest means several, or what shall be shown has no bytes left.
    """
    if why is None and reference.digest is None and reference.alias is None and reference.number is None:
        raise RegistryError(
            f"adapter {reference.name!r}: which revision shall be shown again?",
            code="ambiguous-reference",
            context={"name": reference.name},
            hint=f"give its number, such as {reference.name}@1",
        )
    revision = _revision(session, reference)
    name, number = revision.adapter_name, revision.number
    if why is None and revision.yanked_at is not None:
        _check_bytes(revision)
        revision.yanked_at = revision.yank_reason = None
        write_log(session, "yank", name, digest=revision.artifact.digest, number=number, undo=True)
    elif why is not None and revision.yanked_at is None:
        revision.yanked_at, revision.yank_reason = now(), why
        write_log(session, "yank", name, digest=revision.artifact.digest, number=number, why=why)
    return YankResult(name=name, number=number, is_yanked=revision.yanked_at is not None, reason=revision.yank_reason)


def edit_adapter(session: Session, name: str, *, owner: str | None, description: str | None) -> AdapterEdit:
    """Say who answers for an adapter and what it is for; ``None`` leaves a field, an empty text clears it.

    Raises:
        RegistryNotFoundError: There is no such adapter.
    """
    adapter_id = _lock(session, name)
    columns = (AdapterRow.owner, AdapterRow.description)
    before = session.execute(select(*columns).where(AdapterRow.id == adapter_id)).one()
    after = {
        "owner": before.owner if owner is None else owner or None,
        "description": before.description if description is None else description or None,
    }
    if after != {"owner": before.owner, "description": before.description}:
        session.execute(update(AdapterRow).where(AdapterRow.id == adapter_id).values(**after))
        renew_texts(session, RevisionRow.adapter_id == adapter_id)
        if after["owner"] != before.owner:
            renew_labels(session, RevisionRow.adapter_id == adapter_id)
        previous = {"owner": before.owner, "description": before.description}
        changed = {key: value for key, value in after.items() if value != previous[key]}
        write_log(session, "describe", name, **changed)
    return AdapterEdit(name=name, **after)
