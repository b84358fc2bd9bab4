"""Writing what an import brings: artifacts with their own history, then adapters, each in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now, write_log
from ual_registry.registry.commands import add_artifacts, add_blobs, add_edges, base_model_id, insert_absent
from ual_registry.registry.describe import Description
from ual_registry.registry.export_document import TOMBSTONE_FIELDS
from ual_registry.registry.facets import renew_facets
from ual_registry.registry.import_document import AdapterPart, ArtifactPart, RevisionPart
from ual_registry.registry.import_plan import AdapterPlan, plan_adapter
from ual_registry.registry.labels import renew_labels
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    AttestationRow,
    HubLinkRow,
    RevisionRow,
    TagRow,
)
from ual_registry.registry.texts import renew_texts

__all__ = ["write_adapter", "write_artifact", "write_history", "write_tombstone"]


def write_artifact(session: Session, part: ArtifactPart, description: Description) -> None:
    """Write an artifact whose bytes are in the store; it keeps the time at which it was first added anywhere."""
    known = select(ArtifactRow.id).where(ArtifactRow.digest == description.digest, ArtifactRow.deleted_at.is_(None))
    is_new = session.scalar(known) is None
    add_blobs(session, {description.digest: part.size_bytes})
    artifact_id = add_artifacts(session, [description])[description.digest]
    if is_new and part.added_at is not None:
        session.execute(update(ArtifactRow).where(ArtifactRow.id == artifact_id).values(added_at=part.added_at))


def write_tombstone(session: Session, part: ArtifactPart) -> None:
    """Write an artifact whose bytes are gone; one that is here stays as it is.

    Raises:
        RegistryConflictError: A parent of it is known as made from it.
    """
    assert part.tombstone is not None  # what the document promises of a deleted artifact
    digest = str(part.digest)
    if session.scalar(select(ArtifactRow.id).where(ArtifactRow.digest == digest)) is not None:
        return
    row: dict[str, Any] = {name: part.tombstone.get(name) for name in TOMBSTONE_FIELDS}
    base = part.tombstone.get("base_model")
    row |= {"digest": digest, "media_type": part.media_type, "size_bytes": part.size_bytes}
    row |= {"added_at": part.added_at or part.deleted_at, "deleted_at": part.deleted_at}
    row["base_model_id"] = base_model_id(session, base) if base else None
    insert_absent(session, ArtifactRow, row)
    parents = [edge for edge in part.tombstone.get("parents", ()) if edge["digest"] != digest]
    rows = [{"child_digest": digest, "parent_digest": own["digest"], "relation": own["relation"]} for own in parents]
    add_edges(session, digest, rows)


def write_history(session: Session, part: ArtifactPart) -> None:
    """Write where an artifact was published and what was signed about it, as far as that is not known here."""
    if not part.hub_links and not part.attestations:
        return
    own = select(ArtifactRow.id).where(ArtifactRow.digest == str(part.digest))
    artifact_id = session.execute(own).scalar_one()
    for link in part.hub_links:
        insert_absent(session, HubLinkRow, {**link, "artifact_id": artifact_id})
    for statement in part.attestations:
        insert_absent(session, AttestationRow, {**statement, "artifact_id": artifact_id})


def write_adapter(session: Session, part: AdapterPart, *, renumbers: bool) -> tuple[AdapterPlan, tuple[str, ...]]:
    """Write an adapter, its revisions and aliases.

    Args:
        session: An open session that writes.
        part: The adapter.
        renumbers: Whether revisions whose numbers are taken get new ones; otherwise nothing is written.

    Returns:
        What was done, and what was left as it is here although the document says otherwise.
    """
    insert_absent(session, AdapterRow, {"name": part.name, "newest": 0, "created_at": part.created_at or now()})
    adapter = session.scalars(select(AdapterRow).where(AdapterRow.name == part.name).with_for_update()).one()
    plan = plan_adapter(session, part)
    if plan.conflicts and not renumbers:
        return plan, ()
    before = {name: getattr(adapter, name) for name in _DESCRIBED}
    kept = _describe(adapter, part)
    described = {name: getattr(adapter, name) for name in _DESCRIBED if getattr(adapter, name) != before[name]}
    for revision in part.revisions:
        kept += _revision(session, adapter, part, revision, plan)
    changed = [alias for alias in part.aliases if _alias(session, adapter.id, alias, plan, kept)]
    adapter.newest = max(adapter.newest, *plan.numbers.values())
    session.flush()
    if plan.added or changed or described:
        renew_facets(session, RevisionRow.adapter_id == adapter.id)
        renew_texts(session, RevisionRow.adapter_id == adapter.id)
        renew_labels(session, RevisionRow.adapter_id == adapter.id)
        numbers, aliases = [plan.numbers[number] for number in plan.added], [alias.name for alias in changed]
        write_log(session, "import", part.name, numbers=numbers, aliases=aliases, **described)
    return plan, tuple(kept)


_DESCRIBED = ("owner", "description")


def _describe(adapter: AdapterRow, part: AdapterPart) -> list[str]:
    kept = []
    for name in _DESCRIBED:
        new, old = getattr(part, name), getattr(adapter, name)
        if old is None:
            setattr(adapter, name, new)
        elif new not in (None, old):
            kept.append(f"{name} of {part.name}")
    return kept


def _revision(
    session: Session, adapter: AdapterRow, part: AdapterPart, revision: RevisionPart, plan: AdapterPlan
) -> list[str]:
    number = plan.numbers[revision.number]
    if revision.number not in plan.added:
        return _compare(session, adapter.id, part.name, number, revision)
    artifact = select(ArtifactRow.id).where(ArtifactRow.digest == revision.digest)
    row = {
        "adapter_id": adapter.id,
        "adapter_name": part.name,
        "number": number,
        "artifact_id": session.execute(artifact).scalar_one(),
        "created_at": revision.created_at,
        "yanked_at": revision.yanked_at,
        "yank_reason": revision.yank_reason,
    }
    revision_id = session.execute(insert(RevisionRow).values(**row).returning(RevisionRow.id)).scalar_one()
    own = {"revision_id": revision_id, "adapter_name": part.name, "number": number}
    tags = [{**own, "key": key, "value": value} for key, value in revision.tags.items()]
    if tags:
        session.execute(insert(TagRow), tags)
    return []


def _compare(session: Session, adapter_id: int, name: str, number: int, revision: RevisionPart) -> list[str]:
    """Say where a revision that is here already differs in what may change; it stays as it is."""
    own = select(RevisionRow).where(RevisionRow.adapter_id == adapter_id, RevisionRow.number == number)
    row = session.scalars(own).one()
    labels = session.execute(select(TagRow.key, TagRow.value).where(TagRow.revision_id == row.id))
    tags = {key: value for key, value in labels}  # noqa: C416  # rows are no pairs to the type checker
    kept = [f"tags of {name}@{number}"] if tags != dict(revision.tags) else []
    return kept + ([f"yank of {name}@{number}"] if (row.yanked_at is None) != (revision.yanked_at is None) else [])


def _alias(session: Session, adapter_id: int, alias: Any, plan: AdapterPlan, kept: list[str]) -> bool:
    """Set an alias that is not here; one that points elsewhere stays where it is."""
    own = select(RevisionRow.id, RevisionRow.adapter_name).where(
        RevisionRow.adapter_id == adapter_id, RevisionRow.number == plan.numbers[alias.number]
    )
    target = session.execute(own).one()
    row = session.get(AliasRow, (adapter_id, alias.name))
    if row is None:
        session.add(
            AliasRow(
                adapter_id=adapter_id,
                name=alias.name,
                revision_id=target.id,
                is_protected=alias.is_protected,
                moved_at=alias.moved_at or now(),
            )
        )
        return True
    if row.revision_id != target.id:
        kept.append(f"alias {alias.name} of {target.adapter_name}")
    return False
