"""Writing the database: one transaction per command, and its entry in the audit log inside it."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel, Manifest
from ual_registry.air.versions import MEDIA_TYPE
from ual_registry.errors import RegistryConflictError
from ual_registry.registry.queries import find_revision
from ual_registry.registry.records import AliasMove
from ual_registry.registry.reference import Reference
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    AuditRow,
    BaseModelRow,
    EntryRow,
    LineageRow,
    RevisionRow,
)

__all__ = ["add_artifact", "add_revision", "move_alias"]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _log(session: Session, action: str, name: str, **detail: Any) -> None:
    session.add(AuditRow(at=_now(), action=action, adapter_name=name, detail=detail))


def add_artifact(session: Session, adapter: Adapter, *, digest: str, size_bytes: int) -> None:
    """Describe stored bytes; nothing happens where they are known already."""
    if session.get(ArtifactRow, digest) is not None:
        return
    manifest = adapter.manifest
    base = _base_row(session, manifest.base_model)
    session.add(
        ArtifactRow(
            digest=digest,
            tensor_digest=manifest.tensor_digest,
            kind=manifest.kind,
            media_type=MEDIA_TYPE,
            size_bytes=size_bytes,
            base_model_id=base.id,
            method=_method(manifest),
            task_type=manifest.method.task_type,
            domain=manifest.domain,
            license=manifest.license,
            parameter_count=adapter.parameter_count,
            added_at=_now(),
            entries=[
                EntryRow(
                    position=position,
                    stack=entry.stack,
                    layer=entry.layer,
                    role=entry.role,
                    rank=entry.rank,
                    in_features=entry.in_features,
                    out_features=entry.out_features,
                    scaling=entry.scaling,
                )
                for position, entry in enumerate(manifest.entries)
            ],
        )
    )
    session.flush()
    for parent in set(manifest.parents):
        session.add(LineageRow(child_digest=digest, parent_digest=parent.digest, relation=parent.relation))


def _method(manifest: Manifest) -> str:
    """Return the projection that made the artifact, or the family of the method that trained it."""
    projections = [item.parameters.get("method") for item in manifest.provenance if item.type == "projection"]
    return str(projections[-1]) if projections and projections[-1] else manifest.method.type


def _base_row(session: Session, base: BaseModel) -> BaseModelRow:
    revision = base.revision or ""
    statement = select(BaseModelRow).where(
        BaseModelRow.config_digest == base.config_digest,
        BaseModelRow.label == base.id,
        BaseModelRow.revision == revision,
        BaseModelRow.architecture == base.architecture,
        BaseModelRow.model_type == base.model_type,
    )
    found = session.scalar(statement)
    if found is None:
        found = BaseModelRow(
            label=base.id,
            revision=revision,
            architecture=base.architecture,
            model_type=base.model_type,
            config_digest=base.config_digest,
            hidden_size=base.stacks[0].hidden_size,
            num_layers=base.stacks[0].num_layers,
        )
        session.add(found)
        session.flush()
    return found


def add_revision(session: Session, name: str, digest: str) -> tuple[int, bool]:
    """Give an artifact the next number under a name.

    Returns:
        The number, and whether it is new; the same bytes under the same name keep their number.

    Raises:
        RegistryConflictError: Another process took the number in the same moment.
    """
    adapter = session.scalar(select(AdapterRow).where(AdapterRow.name == name))
    if adapter is None:
        adapter = AdapterRow(name=name, created_at=_now())
        session.add(adapter)
    try:
        session.flush()
        own = RevisionRow.adapter_id == adapter.id
        known = session.scalar(select(RevisionRow.number).where(own, RevisionRow.digest == digest))
        if known is not None:
            return known, False
        newest = session.scalar(select(func.max(RevisionRow.number)).where(own)) or 0
        session.add(RevisionRow(adapter_id=adapter.id, number=newest + 1, digest=digest, created_at=_now()))
        _log(session, "add", name, number=newest + 1, digest=digest)
        session.flush()
    except IntegrityError as error:
        raise RegistryConflictError(
            f"adapter {name!r}: another process added a revision in the same moment", hint="run the command again"
        ) from error
    return newest + 1, True


def move_alias(session: Session, name: str, alias: str, reference: Reference, *, expected: int | None) -> AliasMove:
    """Point an alias at a revision.

    Args:
        session: An open session.
        name: The adapter.
        alias: The alias.
        reference: The revision that it shall point to.
        expected: The revision that it must point to now (0: none); ``None`` leaves that open.

    Raises:
        RegistryNotFoundError: There is no such revision.
        RegistryConflictError: The alias does not point to ``expected``.
    """
    target = find_revision(session, reference)
    row = session.get(AliasRow, (target.adapter_id, alias))
    previous = session.get(RevisionRow, row.revision_id) if row else None
    before = previous.number if previous else None
    if expected is not None and expected != (before or 0):
        found = f"on revision {before}" if before else "nowhere"
        raise RegistryConflictError(
            f"adapter {name!r} has alias {alias!r} {found} (expected revision {expected})",
            context={"name": name, "alias": alias, "found": before, "expected": expected},
            hint="read it again and retry",
        )
    if row is None:
        session.add(AliasRow(adapter_id=target.adapter_id, name=alias, revision_id=target.id))
    else:
        row.revision_id = target.id
    _log(session, "alias", name, alias=alias, previous=before, number=target.number)
    return AliasMove(name=name, alias=alias, previous=before, number=target.number)
