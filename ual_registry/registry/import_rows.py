"""Writing what an import brings: artifacts with their own history, then adapters, each in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now, write_logs
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
    Table,
    TagRow,
)
from ual_registry.registry.texts import renew_texts

__all__ = ["Written", "write_adapters", "write_artifacts", "write_history", "write_tombstone"]


def write_artifacts(session: Session, stored: Sequence[tuple[ArtifactPart, Description]]) -> None:
    """Write artifacts whose bytes are in the store; they keep the time at which they were first added anywhere."""
    added_at = {str(part.digest): part.added_at for part, _ in stored if part.added_at is not None}
    add_blobs(session, {str(part.digest): part.size_bytes for part, _ in stored})
    add_artifacts(session, [description for _, description in stored], added_at=added_at)


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
    add_edges(session, digest, rows, is_claim=True)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of an adapter of the document.

    Attributes:
        part: The adapter.
        plan: What was done; nothing, where it has conflicts that were to be none.
        kept: What was left as it is here although the document says otherwise.
    """

    part: AdapterPart
    plan: AdapterPlan
    kept: tuple[str, ...] = ()


def write_adapters(session: Session, parts: Sequence[AdapterPart], *, on_conflict: str) -> list[Written]:
    """Write adapters, their revisions and aliases.

    Args:
        session: An open session that writes.
        parts: The adapters, in the order of their names, so that no two that import wait for each other.
        on_conflict: What happens to one whose numbers are taken: ``renumber`` gives new ones, ``skip`` writes nothing
            of it, ``fail`` nothing of it and of those after it.

    Returns:
        What became of each, up to the first that failed.
    """
    written: list[Written] = []
    changed, log = [], []
    for part in parts:
        adapter = _lock_adapter(session, part)
        plan = plan_adapter(session, part)
        if plan.conflicts and on_conflict != "renumber":
            written.append(Written(part=part, plan=plan))
            if on_conflict == "fail":
                break
            continue
        kept, detail = _write_adapter(session, adapter, part, plan)
        written.append(Written(part=part, plan=plan, kept=kept))
        if detail is not None:
            changed.append(adapter.id)
            log.append((part.name, None, detail))
    session.flush()
    if changed:
        which = RevisionRow.adapter_id.in_(changed)
        renew_facets(session, which)
        renew_texts(session, which)
        renew_labels(session, which)
        write_logs(session, "import", log)
    return written


def _lock_adapter(session: Session, part: AdapterPart) -> AdapterRow:
    """Keep other writers from an adapter until the end, and return its row; a new one is made."""
    insert_absent(session, AdapterRow, {"name": part.name, "newest": 0, "created_at": part.created_at or now()})
    return session.scalars(select(AdapterRow).where(AdapterRow.name == part.name).with_for_update()).one()


def _write_adapter(
    session: Session, adapter: AdapterRow, part: AdapterPart, plan: AdapterPlan
) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """Write what a plan says; return what was left as it is, and what the log says, ``None`` where nothing is new."""
    before = {name: getattr(adapter, name) for name in _DESCRIBED}
    kept = _describe(adapter, part)
    described = {name: getattr(adapter, name) for name in _DESCRIBED if getattr(adapter, name) != before[name]}
    added = set(plan.added)
    new = [revision for revision in part.revisions if revision.number in added]
    for start in range(0, len(new), _BATCH):
        _add_revisions(session, adapter, new[start : start + _BATCH], plan)
    for revision in part.revisions:
        if revision.number not in added:
            kept += _compare(session, adapter, plan.numbers[revision.number], revision)
    changed = [alias.name for alias in part.aliases if _alias(session, adapter.id, alias, plan, kept)]
    adapter.newest = max(adapter.newest, *plan.numbers.values())
    if not (plan.added or changed or described):
        return tuple(kept), None
    return tuple(kept), {"numbers": [plan.numbers[number] for number in plan.added], "aliases": changed, **described}


_BATCH = 500
"""Revisions that are written by one statement."""

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


def _add_revisions(session: Session, adapter: AdapterRow, revisions: Sequence[RevisionPart], plan: AdapterPlan) -> None:
    digests = [revision.digest for revision in revisions]
    artifacts = {row.digest: row.id for row in session.execute(_ARTIFACTS, {"digests": digests})}
    rows = [
        {
            "adapter_id": adapter.id,
            "adapter_name": adapter.name,
            "number": plan.numbers[revision.number],
            "artifact_id": artifacts[revision.digest],
            "created_at": revision.created_at,
            "yanked_at": revision.yanked_at,
            "yank_reason": revision.yank_reason,
        }
        for revision in revisions
    ]
    ids = {row.number: row.id for row in session.execute(_INSERT_REVISIONS, rows)}
    tags = [
        {"revision_id": ids[number], "adapter_name": adapter.name, "number": number, "key": key, "value": value}
        for revision in revisions
        for number in (plan.numbers[revision.number],)
        for key, value in revision.tags.items()
    ]
    if tags:
        session.execute(_INSERT_TAGS, tags)


_ARTIFACTS = select(ArtifactRow.digest, ArtifactRow.id).where(
    ArtifactRow.digest.in_(bindparam("digests", expanding=True))
)
_INSERT_REVISIONS = Table.metadata.tables["revisions"].insert().returning(RevisionRow.id, RevisionRow.number)
_INSERT_TAGS = Table.metadata.tables["tags"].insert()


def _compare(session: Session, adapter: AdapterRow, number: int, revision: RevisionPart) -> list[str]:
    """Say where a revision that is here already differs in what may change; it stays as it is."""
    own = select(RevisionRow).where(RevisionRow.adapter_id == adapter.id, RevisionRow.number == number)
    row = session.scalars(own).one()
    labels = session.execute(select(TagRow.key, TagRow.value).where(TagRow.revision_id == row.id))
    tags = {key: value for key, value in labels}  # noqa: C416  # rows are no pairs to the type checker
    kept = [f"tags of {adapter.name}@{number}"] if tags != dict(revision.tags) else []
    return kept + (
        [f"yank of {adapter.name}@{number}"] if (row.yanked_at is None) != (revision.yanked_at is None) else []
    )


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
