"""What is known of an artifact from elsewhere: where it was published, and who signed a statement about it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryNotFoundError
from ual_registry.registry.audit import now, write_log
from ual_registry.registry.commands import insert_absent
from ual_registry.registry.moments import utc
from ual_registry.registry.records import Attestation, HubLink
from ual_registry.registry.reference import check_text
from ual_registry.registry.tables import ArtifactRow, AttestationRow, HubLinkRow

__all__ = ["attestations", "hub_links", "record_attestation", "record_hub_link"]


def record_hub_link(
    session: Session, digest: str, *, repository: str, commit: str, path: str, direction: str, name: str = ""
) -> None:
    """Note that an artifact was pushed to the Hub or pulled from it; the same again is noted once.

    Args:
        session: An open session that writes.
        digest: The artifact.
        repository: Hub repository.
        commit: Commit of the repository.
        path: File in the repository.
        direction: ``push`` or ``pull``.
        name: The adapter that it was done for, where there is one.

    Raises:
        RegistryNotFoundError: There is no such artifact.
        RegistryError: A text is too long.
    """
    for what, text in (("repository", repository), ("commit", commit), ("path", path)):
        check_text(what, text)
    row = {"repository": repository, "commit": commit, "path": path, "direction": direction}
    insert_absent(session, HubLinkRow, {**row, "artifact_id": _artifact(session, digest), "at": now()})
    write_log(session, direction, name, digest=digest, repository=repository, commit=commit, path=path)


def hub_links(session: Session, digest: str) -> tuple[HubLink, ...]:
    """Return where an artifact was published and where it came from, oldest first."""
    statement = select(HubLinkRow).join(ArtifactRow).where(ArtifactRow.digest == digest).order_by(HubLinkRow.id)
    return tuple(
        HubLink(
            digest=digest,
            repository=row.repository,
            commit=row.commit,
            path=row.path,
            direction=row.direction,
            at=utc(row.at),
        )
        for row in session.scalars(statement)
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
