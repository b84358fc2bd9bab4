"""What a registry knows, as one document: names, numbers, times, aliases, tags, yanks, tombstones, Hub links.

What the bytes say of themselves is left out; it is read from them again. The document follows
``schemas/1.0/registry-export.json`` and is canonical JSON, so that the same contents are the same bytes.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.registry.moments import utc
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    AttestationRow,
    BaseModelRow,
    HubLinkRow,
    LineageRow,
    RevisionRow,
    TagRow,
)

__all__ = ["EXPORT_VERSION", "TOMBSTONE_FIELDS", "registry_document"]

Document = dict[str, Any]

EXPORT_VERSION = "1.0"
_BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_CHUNK = 500

TOMBSTONE_FIELDS = (
    "tensor_digest",
    "kind",
    "method",
    "parameter_count",
    "entry_count",
    "title",
    "description",
    "task_type",
    "domain",
    "license",
    "rank_min",
    "rank_max",
    "recovered_gain",
)
"""The columns of an artifact that nothing but its row knows once its bytes are gone."""


def registry_document(session: Session, revisions: Iterable[tuple[str, int]] | None = None) -> Document:
    """Return the document of a registry, or of some of its revisions.

    Args:
        session: An open session that sees one state of the database.
        revisions: Name and number of each; ``None`` for everything.
    """
    chosen = None if revisions is None else set(revisions)
    names = None if chosen is None else sorted({name for name, _ in chosen})
    adapters = [item for part in _parts(names) for item in _adapters(session, part, chosen)]
    wanted = None if chosen is None else {item["digest"] for adapter in adapters for item in adapter["revisions"]}
    artifacts = [
        item for part in _parts(sorted(wanted) if wanted is not None else None) for item in _artifacts(session, part)
    ]
    times = [item[name] for item in (*artifacts, *adapters) for name in ("added_at", "created_at") if name in item]
    return {
        "export_version": EXPORT_VERSION,
        "created_at": max(times, default=_time(_BEGINNING)),
        "artifacts": sorted(artifacts, key=lambda item: item["digest"]),
        "adapters": sorted(adapters, key=lambda item: item["name"]),
    }


def _parts(values: Sequence[str] | None) -> Iterator[Sequence[str] | None]:
    """Yield a few values at once, because a statement takes no more; ``None`` stands for all."""
    if values is None:
        yield None
        return
    rest = iter(values)
    while part := list(islice(rest, _CHUNK)):
        yield part


def _time(moment: datetime.datetime) -> str:
    """Write a time with six decimals, so that texts are in the order of times."""
    return utc(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _given(**fields: Any) -> Document:
    """Return the fields that say something."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _adapters(session: Session, names: Sequence[str] | None, chosen: set[tuple[str, int]] | None) -> Iterator[Document]:
    statement = select(AdapterRow).order_by(AdapterRow.name)
    rows = session.scalars(statement if names is None else statement.where(AdapterRow.name.in_(names))).all()
    revisions, aliases = _revisions(session, names, chosen), _aliases(session, names, chosen)
    for row in rows:
        if revisions[row.name]:
            yield {
                "name": row.name,
                "created_at": _time(row.created_at),
                "revisions": revisions[row.name],
                "aliases": aliases[row.name],
                **_given(owner=row.owner, description=row.description),
            }


def _of_names(statement: Any, names: Sequence[str] | None) -> Any:
    """Limit a statement about revisions to those of some adapters."""
    return statement if names is None else statement.where(RevisionRow.adapter_name.in_(names))


def _revisions(
    session: Session, names: Sequence[str] | None, chosen: set[tuple[str, int]] | None
) -> dict[str, list[Document]]:
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    labels = select(TagRow.revision_id, TagRow.key, TagRow.value)
    joined = labels.join(RevisionRow, RevisionRow.id == TagRow.revision_id)
    for revision_id, key, value in session.execute(_of_names(joined, names)):
        tags[revision_id][key] = value
    found: dict[str, list[Document]] = defaultdict(list)
    statement = select(RevisionRow, ArtifactRow.digest).join(RevisionRow.artifact)
    for row, digest in session.execute(
        _of_names(statement, names).order_by(RevisionRow.adapter_name, RevisionRow.number)
    ):
        if chosen is None or (row.adapter_name, row.number) in chosen:
            yank = _given(at=_time(row.yanked_at), reason=row.yank_reason) if row.yanked_at else None
            item = {"number": row.number, "digest": digest, "created_at": _time(row.created_at)}
            found[row.adapter_name].append({**item, **_given(tags=tags[row.id], yanked=yank)})
    return found


def _aliases(
    session: Session, names: Sequence[str] | None, chosen: set[tuple[str, int]] | None
) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    statement = select(AliasRow, RevisionRow).join(RevisionRow, RevisionRow.id == AliasRow.revision_id)
    for row, revision in session.execute(_of_names(statement, names)):
        if chosen is None or (revision.adapter_name, revision.number) in chosen:
            item = {"name": row.name, "number": revision.number, "moved_at": _time(row.moved_at)}
            found[revision.adapter_name].append({**item, "is_protected": row.is_protected})
    for items in found.values():
        items.sort(key=lambda item: item["name"])
    return found


def _artifacts(session: Session, digests: Sequence[str] | None) -> Iterator[Document]:
    statement = select(ArtifactRow, BaseModelRow).outerjoin(BaseModelRow, BaseModelRow.id == ArtifactRow.base_model_id)
    if digests is not None:
        statement = statement.where(ArtifactRow.digest.in_(digests))
    links, statements = _hub_links(session, digests), _attestations(session, digests)
    for row, base in session.execute(statement):
        yield {
            "digest": row.digest,
            "media_type": row.media_type,
            "size_bytes": row.size_bytes,
            "added_at": _time(row.added_at),
            **_given(hub_links=links[row.digest], attestations=statements[row.digest]),
            **(_tombstone(session, row, base) if row.deleted_at else {}),
        }


def _tombstone(session: Session, row: ArtifactRow, base: BaseModelRow | None) -> Document:
    parents = select(LineageRow.parent_digest, LineageRow.relation).where(LineageRow.child_digest == row.digest)
    order = (LineageRow.parent_digest, LineageRow.relation)
    edges = [{"digest": digest, "relation": relation} for digest, relation in session.execute(parents.order_by(*order))]
    model = {c.key: getattr(base, c.key) for c in BaseModelRow.__table__.columns if c.key != "id"} if base else {}
    described = {name: getattr(row, name) for name in TOMBSTONE_FIELDS}
    assert row.deleted_at is not None  # who calls this knows
    return {
        "deleted_at": _time(row.deleted_at),
        "tombstone": _given(**described, parents=edges, base_model=_given(**model)),
    }


def _hub_links(session: Session, digests: Sequence[str] | None) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    statement = select(ArtifactRow.digest, HubLinkRow).join(HubLinkRow, HubLinkRow.artifact_id == ArtifactRow.id)
    for digest, row in session.execute(
        statement if digests is None else statement.where(ArtifactRow.digest.in_(digests))
    ):
        names = ("repository", "commit", "path", "direction")
        found[digest].append({**{name: getattr(row, name) for name in names}, "at": _time(row.at)})
    for items in found.values():
        items.sort(key=lambda item: tuple(sorted(item.items())))
    return found


def _attestations(session: Session, digests: Sequence[str] | None) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    statement = select(ArtifactRow.digest, AttestationRow).join(
        AttestationRow, AttestationRow.artifact_id == ArtifactRow.id
    )
    for digest, row in session.execute(
        statement if digests is None else statement.where(ArtifactRow.digest.in_(digests))
    ):
        names = ("predicate_type", "signer", "statement_digest", "envelope")
        found[digest].append(_given(**{name: getattr(row, name) for name in names}, added_at=_time(row.added_at)))
    for items in found.values():
        items.sort(key=lambda item: item["statement_digest"])
    return found
