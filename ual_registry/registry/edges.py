"""Edges of lineage: written so that no artifact ever is its own ancestor.

The digests of files see to that by themselves: a file names its parents by what they hold. Of a tombstone that was
imported nobody can check what its bytes said, so an edge that would close a circle is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryConflictError
from ual_registry.registry.lineage import descendants
from ual_registry.registry.tables import LineageRow

__all__ = ["check_edges"]


def check_edges(session: Session, child: str, edges: Iterable[Mapping[str, str]]) -> None:
    """Refuse parents that were made from their child, as far as that is known here.

    Args:
        session: An open session.
        child: The artifact.
        edges: What it was made from, by ``parent_digest``.

    Raises:
        RegistryConflictError: A parent is a descendant.
    """
    parents = {edge["parent_digest"] for edge in edges}
    if not parents or session.scalar(select(LineageRow.child_digest).where(LineageRow.parent_digest == child)) is None:
        return  # most of what is added is nobody's parent yet
    circle = parents.intersection(session.scalars(descendants(child)))
    if circle:
        raise RegistryConflictError(
            f"{child}: cannot be made from {min(circle)}, which was made from it",
            context={"digest": child, "parent": min(circle)},
            hint="a tombstone that was imported says so: its export cannot be trusted",
        )
