"""The words of a revision, kept in one text for full-text search and renewed whenever one of them changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from ual_registry.registry.tables import AdapterRow, ArtifactRow, RevisionRow, RevisionTextRow, Table, TagRow
from ual_registry.registry.words import words

__all__ = ["renew_texts", "write_texts"]

_BODY_LIMIT = 100_000
"""Characters; PostgreSQL's index of words takes 1 MB."""


def write_texts(session: Session, texts: Iterable[tuple[int, Iterable[str | None]]]) -> None:
    """Write the words of new revisions, given by row number with the texts that hold them."""
    session.execute(_INSERT, [{"revision_id": number, "body": _body(parts)} for number, parts in texts])


_INSERT = Table.metadata.tables["revision_texts"].insert()


def renew_texts(session: Session, where: ColumnElement[bool]) -> None:
    """Write the words of revisions anew.

    Args:
        session: An open session that writes.
        where: Which revisions, said of ``RevisionRow``.
    """
    columns = (AdapterRow.name, AdapterRow.owner, AdapterRow.description)
    own = (ArtifactRow.title, ArtifactRow.domain, ArtifactRow.description)
    statement = select(RevisionRow.id, *columns, *own).join(RevisionRow.adapter).join(RevisionRow.artifact)
    found = session.execute(statement.where(where)).all()
    tags = _tags(session, where)
    chosen = select(RevisionRow.id).where(where)
    session.execute(delete(RevisionTextRow).where(RevisionTextRow.revision_id.in_(chosen)))
    rows = [{"revision_id": row[0], "body": _body([*row[1:], *tags[row[0]]])} for row in found]
    if rows:
        session.execute(insert(RevisionTextRow), rows)


def _tags(session: Session, where: ColumnElement[bool]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    statement = select(TagRow.revision_id, TagRow.key, TagRow.value).join(
        RevisionRow, RevisionRow.id == TagRow.revision_id
    )
    for revision_id, key, value in session.execute(statement.where(where).order_by(TagRow.key)):
        found[revision_id] += [key, value]
    return found


def _body(parts: Iterable[str | None]) -> str:
    return "\n".join(" ".join(words(part)) for part in parts if part)[:_BODY_LIMIT]
