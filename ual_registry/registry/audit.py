"""The audit log: who did what, written in the transaction of the doing, read newest first."""

from __future__ import annotations

import datetime
import getpass
import os
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryError
from ual_registry.registry.cursor import pack, unpack
from ual_registry.registry.describe import shortened
from ual_registry.registry.moments import utc
from ual_registry.registry.queries import find_digest, find_revision
from ual_registry.registry.records import LogEntry
from ual_registry.registry.reference import Reference, quoted
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import AdapterRow, ArtifactRow, AuditRow, Table
from ual_registry.registry.views import Page

__all__ = ["MAX_ENTRIES", "actor", "now", "read_log", "write_log", "write_logs"]

MAX_ENTRIES = 100_000
"""Of one page of the log."""


def now() -> datetime.datetime:
    """Return this moment, UTC."""
    return datetime.datetime.now(datetime.UTC)


def actor() -> str:
    """Return who acts: ``UAL_ACTOR``, or what the system calls the user."""
    named = os.environ.get("UAL_ACTOR", "").strip()
    if named:
        return shortened(named)
    try:
        return shortened(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return "unknown"  # a user without a name, as in some containers


def write_log(session: Session, action: str, name: str, *, digest: str | None = None, **detail: Any) -> None:
    """Write what the open transaction does.

    Args:
        session: The session of the doing.
        action: The word of the command.
        name: The adapter; empty where there is none.
        digest: The artifact, where there is one.
        detail: What exactly; JSON values.
    """
    write_logs(session, action, [(name, digest, detail)])


def write_logs(session: Session, action: str, entries: Iterable[tuple[str, str | None, Mapping[str, Any]]]) -> None:
    """Write what the open transaction does to many: the adapter, the artifact and the details of each."""
    shared = {"at": now(), "actor": actor(), "action": action}
    own = ({"adapter_name": name, "digest": digest, "detail": detail} for name, digest, detail in entries)
    session.execute(_INSERT, [{**shared, **row} for row in own])


_INSERT = Table.metadata.tables["audit_log"].insert()


def read_log(session: Session, reference: Reference | None, *, limit: int, after: str | None = None) -> Page[LogEntry]:
    """Return what was done, newest first.

    Args:
        session: An open session.
        reference: An adapter, a revision or an artifact; ``None`` for everything.
        limit: How many entries at most.
        after: The cursor of an earlier page.

    Raises:
        RegistryError: The reference names nothing here, the cursor is none of ours, or the limit is too large.
    """
    if not 1 <= limit <= MAX_ENTRIES:
        raise RegistryError(f"limit {limit}: expected 1 to {MAX_ENTRIES:,}", code="limit", context={"limit": limit})
    statement = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    if reference is not None:
        statement = statement.where(*_about(session, reference))
    if after is not None:
        statement = statement.where(AuditRow.id < _position(after))
    rows = session.scalars(statement).all()
    rest = pack({"log": rows[limit - 1].id}) if len(rows) > limit else None
    return Page(items=tuple(_entry(row) for row in rows[:limit]), next=rest)


def _about(session: Session, reference: Reference) -> list[ColumnElement[bool]]:
    """Return what holds for the entries about an adapter, one of its revisions, or an artifact."""
    if reference.digest is not None:
        known = select(ArtifactRow.id).where(ArtifactRow.digest == str(reference.digest))  # a tombstone has a log, too
        if session.scalar(known) is None:
            find_digest(session.connection(), reference)  # an error
        return [AuditRow.digest == str(reference.digest)]
    own = AuditRow.adapter_name == reference.name
    known = select(AdapterRow.id).where(AdapterRow.name == reference.name)
    if reference.alias is not None or reference.number is not None or session.scalar(known) is None:
        find_revision(session, reference)  # an error, where there is none
    detail = AuditRow.detail
    if reference.alias is not None:
        return [own, or_(detail["alias"].as_string() == reference.alias, _lists(session, "aliases", reference.alias))]
    if reference.number is not None:
        number = reference.number
        named = (detail[name].as_integer() == number for name in ("number", "previous"))
        return [own, or_(*named, _lists(session, "numbers", number))]
    return [own]


def _lists(session: Session, key: str, value: str | int) -> ColumnElement[bool]:
    """Return what holds for the entries in whose detail a list holds a value, as that of an import does."""
    if is_sqlite(session.connection()):
        listed = func.json_each(AuditRow.detail, f"$.{key}").table_valued("value")
        return exists().select_from(listed).where(listed.c.value == value)
    return cast(AuditRow.detail, JSONB)[key].contains(cast([value], JSONB))


def _entry(row: AuditRow) -> LogEntry:
    return LogEntry(
        at=utc(row.at),
        actor=row.actor,
        action=row.action,
        name=row.adapter_name,
        digest=row.digest,
        detail=row.detail,
    )


def _position(cursor: str) -> int:
    found = unpack(cursor)
    position = found.get("log") if isinstance(found, dict) else None
    if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < 2**63:
        raise RegistryError(
            f"cursor {quoted(cursor)}: none that 'ual log' printed",
            code="cursor",
            hint="take the one at the end of a page, or leave it out to begin",
        )
    return position
