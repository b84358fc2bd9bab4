"""Reading the database: references, lists, search, lineage. A page costs a fixed number of statements."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager

from ual_registry.errors import RegistryNotFoundError
from ual_registry.registry.query import Node
from ual_registry.registry.records import (
    AdapterRecord,
    LineageEdge,
    LineageGraph,
    LineageNode,
    RevisionRecord,
)
from ual_registry.registry.reference import Reference
from ual_registry.registry.search import condition
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    EntryRow,
    LineageRow,
    RevisionRow,
)

__all__ = ["find_digest", "find_revision", "lineage", "list_adapters", "revisions", "search"]


def find_digest(session: Session, reference: Reference) -> str:
    """Return the digest of what a reference names.

    Raises:
        RegistryNotFoundError: There is no such artifact, adapter, revision or alias.
    """
    if reference.digest is None:
        return find_revision(session, reference).digest
    digest = str(reference.digest)
    if session.get(ArtifactRow, digest) is None:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})
    return digest


def find_revision(session: Session, reference: Reference) -> RevisionRow:
    """Return the revision that a reference by name means.

    Raises:
        RegistryNotFoundError: There is no such adapter, revision or alias.
    """
    adapter = session.scalar(select(AdapterRow).where(AdapterRow.name == reference.name))
    if adapter is None:
        raise _unknown_adapter(session, str(reference.name))
    statement = select(RevisionRow).where(RevisionRow.adapter_id == adapter.id)
    if reference.alias is not None:
        statement = statement.join(AliasRow, AliasRow.revision_id == RevisionRow.id)
        statement = statement.where(AliasRow.adapter_id == adapter.id, AliasRow.name == reference.alias)
    elif reference.number is not None:
        statement = statement.where(RevisionRow.number == reference.number)
    found = session.scalar(statement.order_by(RevisionRow.number.desc()).limit(1))
    if found is None:
        raise _unknown_revision(session, adapter, reference)
    return found


def _unknown_adapter(session: Session, name: str) -> RegistryNotFoundError:
    near = session.scalars(select(AdapterRow.name).order_by(AdapterRow.name).limit(8)).all()
    known = f"this registry holds: {', '.join(near)}" if near else "this registry is empty: see 'ual add'"
    return RegistryNotFoundError(f"adapter {name!r}: not in this registry", context={"name": name}, hint=known)


def _unknown_revision(session: Session, adapter: AdapterRow, reference: Reference) -> RegistryNotFoundError:
    newest = session.scalar(select(func.max(RevisionRow.number)).where(RevisionRow.adapter_id == adapter.id))
    if reference.alias is None:
        message = f"adapter {adapter.name!r} has no revision {reference.number} (newest: {newest})"
        return RegistryNotFoundError(message, context={"name": adapter.name})
    names = session.scalars(
        select(AliasRow.name).where(AliasRow.adapter_id == adapter.id).order_by(AliasRow.name)
    ).all()
    message = f"adapter {adapter.name!r} has no alias {reference.alias!r} (known: {', '.join(names) or 'none'})"
    return RegistryNotFoundError(message, context={"name": adapter.name, "alias": reference.alias})


def _revision_rows(where: Sequence[ColumnElement[bool]]) -> Select[RevisionRow]:
    return (
        select(RevisionRow)
        .join(RevisionRow.adapter)
        .join(RevisionRow.artifact)
        .join(ArtifactRow.base_model)
        .options(
            contains_eager(RevisionRow.adapter),
            contains_eager(RevisionRow.artifact).contains_eager(ArtifactRow.base_model),
        )
        .where(*where)
        .order_by(AdapterRow.name, RevisionRow.number.desc())
    )


def revisions(session: Session, name: str) -> list[RevisionRecord]:
    """Return every revision of an adapter, newest first.

    Raises:
        RegistryNotFoundError: There is no such adapter.
    """
    found = _records(session, session.scalars(_revision_rows([AdapterRow.name == name])).all())
    if not found:
        raise _unknown_adapter(session, name)
    return found


def search(session: Session, query: Node, *, limit: int) -> list[RevisionRecord]:
    """Return the revisions that a query holds for, by name and newest first.

    Args:
        session: An open session.
        query: The parsed query.
        limit: How many at most.
    """
    return _records(session, session.scalars(_revision_rows([condition(query)]).limit(limit)).all())


def list_adapters(session: Session) -> list[AdapterRecord]:
    """Return every adapter with its newest revision, by name."""
    counts = (
        select(RevisionRow.adapter_id, func.max(RevisionRow.number).label("newest"), func.count().label("revisions"))
        .group_by(RevisionRow.adapter_id)
        .subquery()
    )
    is_newest = (RevisionRow.adapter_id == counts.c.adapter_id) & (RevisionRow.number == counts.c.newest)
    rows = session.scalars(_revision_rows([]).join(counts, is_newest)).all()
    totals = session.execute(select(counts.c.adapter_id, counts.c.revisions))
    how_many = {total.adapter_id: total.revisions for total in totals}
    return [
        AdapterRecord(name=record.name, revision_count=how_many[row.adapter_id], newest=record)
        for row, record in zip(rows, _records(session, rows), strict=True)
    ]


def _records(session: Session, rows: Sequence[RevisionRow]) -> list[RevisionRecord]:
    """Turn rows into records with two more statements, however many rows there are."""
    aliases = _aliases(session, [row.id for row in rows])
    shapes = _shapes(session, [row.digest for row in rows])
    return [
        RevisionRecord(
            name=row.adapter.name,
            number=row.number,
            digest=row.digest,
            created_at=_utc(row.created_at),
            aliases=tuple(sorted(aliases[row.id])),
            base=row.artifact.base_model.label,
            architecture=row.artifact.base_model.architecture,
            method=row.artifact.method,
            domain=row.artifact.domain,
            ranks=tuple(sorted({rank for _, rank in shapes[row.digest]})),
            roles=tuple(sorted({role for role, _ in shapes[row.digest]})),
            parameter_count=row.artifact.parameter_count,
            size_bytes=row.artifact.size_bytes,
        )
        for row in rows
    ]


def _utc(moment: datetime.datetime) -> datetime.datetime:
    """SQLite keeps no time zone; ours is always UTC."""
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _aliases(session: Session, revision_ids: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    statement = select(AliasRow.revision_id, AliasRow.name).where(AliasRow.revision_id.in_(revision_ids))
    for revision_id, name in session.execute(statement):
        found[revision_id].append(name)
    return found


def _shapes(session: Session, digests: Sequence[str]) -> dict[str, set[tuple[str, int]]]:
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    statement = (
        select(EntryRow.artifact_digest, EntryRow.role, EntryRow.rank)
        .where(EntryRow.artifact_digest.in_(digests))
        .distinct()
    )
    for digest, role, rank in session.execute(statement):
        found[digest].add((role, rank))
    return found


def lineage(session: Session, digest: str, *, up: bool, down: bool) -> LineageGraph:
    """Return what an artifact was made from, and what was made from it, to the ends.

    Args:
        session: An open session.
        digest: The artifact.
        up: Whether to follow the parents.
        down: Whether to follow the children.
    """
    edges: set[LineageEdge] = set()
    if up:
        edges |= _walk(session, digest, LineageRow.child_digest, LineageRow.parent_digest)
    if down:
        edges |= _walk(session, digest, LineageRow.parent_digest, LineageRow.child_digest)
    digests = {digest} | {edge.child for edge in edges} | {edge.parent for edge in edges}
    return LineageGraph(root=digest, nodes=_nodes(session, digests), edges=tuple(sorted(edges)))


def _walk(
    session: Session, digest: str, here: InstrumentedAttribute[str], there: InstrumentedAttribute[str]
) -> set[LineageEdge]:
    """Follow edges from ``here`` to ``there`` by a recursive query; a set, so that it ends whatever it meets."""
    reached = select(there.label("digest")).where(here == digest).cte("reached", recursive=True)
    reached = reached.union(select(there.label("digest")).join(reached, here == reached.c.digest))
    statement = select(LineageRow).where((here == digest) | here.in_(select(reached.c.digest)))
    return {
        LineageEdge(child=row.child_digest, parent=row.parent_digest, relation=row.relation)
        for row in session.scalars(statement)
    }


def _nodes(session: Session, digests: Iterable[str]) -> dict[str, LineageNode]:
    wanted = sorted(digests)
    bases = select(ArtifactRow.digest, BaseModelRow.label).join(ArtifactRow.base_model)
    labels = {row.digest: row.label for row in session.execute(bases.where(ArtifactRow.digest.in_(wanted)))}
    named = select(RevisionRow.digest, AdapterRow.name, RevisionRow.number).join(RevisionRow.adapter)
    names: dict[str, list[str]] = defaultdict(list)
    for found, name, number in session.execute(named.where(RevisionRow.digest.in_(wanted))):
        names[found].append(f"{name}@{number}")
    return {
        found: LineageNode(digest=found, names=tuple(sorted(names[found])), base=labels.get(found)) for found in wanted
    }
