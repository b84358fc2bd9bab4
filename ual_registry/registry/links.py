"""What is known of an artifact from elsewhere: where it was published, and who signed a statement about it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.audit import now, write_log
from ual_registry.registry.commands import insert_absent
from ual_registry.registry.moments import utc
from ual_registry.registry.records import Attestation, HubLink, HubPlace
from ual_registry.registry.reference import check_text, quoted
from ual_registry.registry.tables import ArtifactRow, AttestationRow, HubLinkRow

__all__ = [
    "DIRECTIONS",
    "attestations",
    "check_place",
    "hub_links",
    "links_to",
    "record_attestation",
    "record_hub_link",
]

DIRECTIONS = ("push", "pull")
"""Which way an artifact went."""


def record_hub_link(session: Session, digest: str, place: HubPlace, *, direction: str, name: str = "") -> None:
    """Note that an artifact was pushed to the Hub or pulled from it; the same again is noted once.

    Args:
        session: An open session that writes.
        digest: The artifact.
        place: Where it stands on the Hub.
        direction: ``push`` or ``pull``.
        name: The adapter that it was done for, where there is one.

    Raises:
        RegistryNotFoundError: There is no such artifact.
        RegistryError: A text is too long, or the direction is none.
    """
    row = check_place(place)
    if direction not in DIRECTIONS:
        raise RegistryError(f"direction {quoted(direction)}: expected push or pull", code="text")
    link = {**row, "direction": direction, "artifact_id": _artifact(session, digest), "at": now()}
    if insert_absent(session, HubLinkRow, link):
        write_log(session, direction, name, digest=digest, **row)


def check_place(place: HubPlace) -> dict[str, str]:
    """Return the columns of a place on the Hub, if they may be kept.

    Raises:
        RegistryError: A text is too long, or holds a control character.
    """
    row = {"repository": place.repository, "commit": place.commit, "path": place.path}
    for what, text in row.items():
        check_text(what, text)
    return row


def hub_links(session: Session, digest: str) -> tuple[HubLink, ...]:
    """Return where an artifact was published and where it came from, oldest first."""
    return _links(session, ArtifactRow.digest == digest)


def links_to(
    session: Session,
    repository: str,
    *,
    commit: str | None = None,
    path: str | None = None,
    direction: str | None = None,
) -> tuple[HubLink, ...]:
    """Return what is here of a Hub repository, oldest first; artifacts whose bytes were deleted are left out.

    Args:
        session: An open session.
        repository: The repository.
        commit: One commit of it; ``None`` for all.
        path: One file in it; ``None`` for all.
        direction: ``push`` or ``pull``; ``None`` for both.
    """
    wanted = ((HubLinkRow.commit, commit), (HubLinkRow.path, path), (HubLinkRow.direction, direction))
    given = [column == value for column, value in wanted if value is not None]
    return _links(session, HubLinkRow.repository == repository, ArtifactRow.deleted_at.is_(None), *given)


def _links(session: Session, *conditions: ColumnElement[bool]) -> tuple[HubLink, ...]:
    statement = select(HubLinkRow, ArtifactRow.digest).join(ArtifactRow, ArtifactRow.id == HubLinkRow.artifact_id)
    return tuple(
        HubLink(
            digest=digest,
            repository=row.repository,
            commit=row.commit,
            path=row.path,
            direction=row.direction,
            at=utc(row.at),
        )
        for row, digest in session.execute(statement.where(*conditions).order_by(HubLinkRow.id))
    )


def record_attestation(
    session: Session,
    digest: str,
    *,
    predicate_type: str,
    signer: str | None,
    statement_digest: str,
    envelope: dict[str, Any],
) -> None:
    """Keep a signed statement about an artifact; the same again is kept once.

    Args:
        session: An open session that writes.
        digest: The artifact.
        predicate_type: What the statement says something about.
        signer: Who signed it, where that is known.
        statement_digest: Digest of the envelope.
        envelope: The envelope.

    Raises:
        RegistryNotFoundError: There is no such artifact.
        RegistryError: A text is too long.
    """
    check_text("predicate type", predicate_type)
    check_text("signer", signer)
    row = {"predicate_type": predicate_type, "signer": signer, "statement_digest": statement_digest}
    artifact_id = _artifact(session, digest)
    insert_absent(session, AttestationRow, {**row, "artifact_id": artifact_id, "envelope": envelope, "added_at": now()})
    write_log(session, "attest", "", digest=digest, **row)


def attestations(session: Session, digest: str) -> tuple[Attestation, ...]:
    """Return the statements about an artifact, oldest first."""
    statement = select(AttestationRow).join(ArtifactRow).where(ArtifactRow.digest == digest)
    return tuple(
        Attestation(
            digest=digest,
            predicate_type=row.predicate_type,
            signer=row.signer,
            statement_digest=row.statement_digest,
            envelope=row.envelope,
            added_at=utc(row.added_at),
        )
        for row in session.scalars(statement.order_by(AttestationRow.id))
    )


def _artifact(session: Session, digest: str) -> int:
    found = session.scalar(select(ArtifactRow.id).where(ArtifactRow.digest == digest))
    if found is None:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})
    return found
