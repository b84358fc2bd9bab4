"""Rows that lead nowhere, found by SQL alone."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session

from ual_registry.registry.edges import circles
from ual_registry.registry.facets import differing
from ual_registry.registry.labels import differing_labels
from ual_registry.registry.measured import differing_measured
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, RevisionRow, TagRow
from ual_registry.registry.word_list import WordRow, differing_words

__all__ = ["broken_rows"]


def broken_rows(session: Session) -> Iterator[tuple[str, str]]:
    """Yield the kind of each fault and what exactly is wrong.

    Args:
        session: An open session.
    """
    yield from _aliases(session)
    yield from _revisions(session)
    yield from _facets(session)
    yield from _labels(session)
    yield from _tags(session)
    yield from _measured(session)
    if not is_sqlite(session.connection()):
        yield from _words(session)
    yield from _numbers(session)
    for digest in circles(session):
        yield "circle", f"{digest} is among artifacts that were made from each other"


def _aliases(session: Session) -> Iterator[tuple[str, str]]:
    statement = (
        select(AliasRow.name, AliasRow.adapter_id, AdapterRow.name, AliasRow.revision_id)
        .outerjoin(AdapterRow, AdapterRow.id == AliasRow.adapter_id)
        .outerjoin(RevisionRow, RevisionRow.id == AliasRow.revision_id)
        .where(or_(RevisionRow.id.is_(None), AdapterRow.id.is_(None), RevisionRow.adapter_id != AliasRow.adapter_id))
        .order_by(AliasRow.adapter_id, AliasRow.name)
    )
    for alias, adapter_id, name, revision_id in session.execute(statement):
        adapter = repr(name) if name is not None else f"in row {adapter_id}, which is not there,"
        yield "dangling", f"adapter {adapter} has alias {alias!r} on row {revision_id}, which is no revision of it"


def _revisions(session: Session) -> Iterator[tuple[str, str]]:
    statement = (
        select(RevisionRow.adapter_name, RevisionRow.number)
        .outerjoin(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
        .outerjoin(AdapterRow, AdapterRow.id == RevisionRow.adapter_id)
        .where(or_(ArtifactRow.id.is_(None), AdapterRow.id.is_(None), AdapterRow.name != RevisionRow.adapter_name))
        .order_by(RevisionRow.adapter_name, RevisionRow.number)
    )
    for name, number in session.execute(statement):
        yield "dangling", f"revision {name}@{number} has no artifact or no adapter of its name"


def _facets(session: Session) -> Iterator[tuple[str, str]]:
    statement = (
        select(RevisionRow.adapter_name, RevisionRow.number)
        .join(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
        .where(differing())
        .order_by(RevisionRow.adapter_name, RevisionRow.number)
    )
    for name, number in session.execute(statement):
        yield "stale", f"revision {name}@{number} keeps other values than those of its artifact"


def _labels(session: Session) -> Iterator[tuple[str, str]]:
    order = (RevisionRow.adapter_name, RevisionRow.number)
    for name, number in session.execute(select(*order).where(differing_labels()).order_by(*order)):
        yield "stale", f"revision {name}@{number} keeps another owner, other aliases or other tags than it has"


def _tags(session: Session) -> Iterator[tuple[str, str]]:
    order = (RevisionRow.adapter_name, RevisionRow.number)
    same = and_(TagRow.adapter_name == RevisionRow.adapter_name, TagRow.number == RevisionRow.number)
    misplaced = exists().where(TagRow.revision_id == RevisionRow.id, ~same)
    for name, number in session.execute(select(*order).where(misplaced).order_by(*order)):
        yield "stale", f"revision {name}@{number} has tags that stand under another name or number"


def _measured(session: Session) -> Iterator[tuple[str, str]]:
    order = (RevisionRow.adapter_name, RevisionRow.number)
    for name, number in session.execute(select(*order).where(differing_measured()).order_by(*order)):
        yield "stale", f"revision {name}@{number} is listed with other results than those of its artifact"


def _words(session: Session) -> Iterator[tuple[str, str]]:
    order = (RevisionRow.adapter_name, RevisionRow.number)
    for name, number in session.execute(select(*order).where(differing_words()).order_by(*order)):
        yield "stale", f"revision {name}@{number} is listed with other words than those of its text"
    kept = (WordRow.adapter_name, WordRow.number)
    without = ~exists().where(RevisionRow.id == WordRow.revision_id)
    for name, number in session.execute(select(*kept).where(without).distinct().order_by(*kept)):
        yield "dangling", f"words are listed of {name}@{number}, which is not there"


def _numbers(session: Session) -> Iterator[tuple[str, str]]:
    newest = func.coalesce(func.max(RevisionRow.number), 0)
    statement = (
        select(AdapterRow.name, AdapterRow.newest, newest)
        .outerjoin(RevisionRow, RevisionRow.adapter_id == AdapterRow.id)
        .group_by(AdapterRow.id, AdapterRow.name, AdapterRow.newest)
        .having(AdapterRow.newest != newest)
        .order_by(AdapterRow.name)
    )
    for name, said, found in session.execute(statement):
        yield "number", f"adapter {name!r} says that its newest revision is {said}, and it is {found}"
