"""What an import would do to each adapter, said before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.registry.import_document import AdapterPart
from ual_registry.registry.tables import ArtifactRow, RevisionRow

__all__ = ["AdapterPlan", "plan_adapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """What becomes of an adapter.

    Attributes:
        is_new: Whether the name is new here.
        numbers: The number here of each number there.
        added: The numbers there of what is not here yet.
        conflicts: Why the numbers cannot be kept; empty where they can.
    """

    is_new: bool
    numbers: Mapping[int, int]
    added: tuple[int, ...]
    conflicts: tuple[str, ...]


def plan_adapter(session: Session, part: AdapterPart) -> AdapterPlan:
    """Compare an adapter of the document with that of the same name here.

    Args:
        session: An open session.
        part: The adapter of the document.
    """
    here = _revisions(session, part.name)
    by_digest = {digest: number for number, digest in here.items()}
    numbers: dict[int, int] = {}
    conflicts: list[str] = []
    added: list[int] = []
    taken = max(here, default=0)
    for revision in part.revisions:
        own = by_digest.get(revision.digest)
        if own is not None:
            numbers[revision.number] = own
            if own != revision.number:
                conflicts.append(f"{part.name}@{revision.number} is {part.name}@{own} here")
            continue
        added.append(revision.number)
        numbers[revision.number] = revision.number
        if revision.number in here:
            conflicts.append(f"{part.name}@{revision.number} has other bytes here")
    if conflicts:
        numbers.update({number: taken + place for place, number in enumerate(added, 1)})
    return AdapterPlan(is_new=not here, numbers=numbers, added=tuple(added), conflicts=tuple(conflicts))


def _revisions(session: Session, name: str) -> dict[int, str]:
    statement = select(RevisionRow.number, ArtifactRow.digest).join(RevisionRow.artifact)
    rows = session.execute(statement.where(RevisionRow.adapter_name == name))
    return {number: digest for number, digest in rows}  # noqa: C416  # rows are no pairs to the type checker
