"""Edges of lineage: written so that no artifact ever is its own ancestor.

The digests of files see to that by themselves: a file names its parents by what they hold. Of a tombstone that was
imported nobody can check what its bytes said, so an edge that would close a circle is refused. On PostgreSQL, where
two may write at once and neither sees the other's edges, a tombstone waits until no other edge is being written.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from ual_registry.errors import RegistryConflictError
from ual_registry.registry.lineage import descendants
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import LineageRow

__all__ = ["check_edges", "circles"]


_EDGES_LOCK = 0x75616C_5F6564
"""The key of the lock that writers of edges hold on PostgreSQL: 'ual_ed' in ASCII."""


def check_edges(session: Session, child: str, edges: Iterable[Mapping[str, str]], *, is_claim: bool = False) -> None:
    """Refuse parents that were made from their child, as far as that is known here.

    Args:
        session: An open session that writes.
        child: The artifact.
        edges: What it was made from, by ``parent_digest``.
        is_claim: Whether the edges are not in bytes whose digest was checked.

    Raises:
        RegistryConflictError: A parent is a descendant.
    """
    parents = {edge["parent_digest"] for edge in edges}
    if not parents:
        return
    if not is_sqlite(session.connection()):
        lock = func.pg_advisory_xact_lock if is_claim else func.pg_advisory_xact_lock_shared
        session.execute(select(lock(_EDGES_LOCK)))
    if session.scalar(select(LineageRow.child_digest).where(LineageRow.parent_digest == child)) is None:
        return  # most of what is added is nobody's parent yet
    circle = parents.intersection(session.scalars(descendants(child)))
    if circle:
        raise RegistryConflictError(
            f"{child}: cannot be made from {min(circle)}, which was made from it",
            context={"digest": child, "parent": min(circle)},
            hint="a tombstone that was imported says so: its export cannot be trusted",
        )


def circles(session: Session) -> list[str]:
    """Return the artifacts that are their own ancestors or lie between such ones, sorted; there should be none.

    Args:
        session: An open session.
    """
    parents: dict[str, list[str]] = defaultdict(list)
    children: dict[str, list[str]] = defaultdict(list)
    for child, parent in session.execute(_WITHIN):
        parents[child].append(parent)
        children[parent].append(child)
    return sorted(_behind_circles(parents) & _behind_circles(children))


def _behind_circles(before: Mapping[str, Sequence[str]]) -> set[str]:
    """Return what lies on a circle of a graph or behind one, which no order reaches."""
    sorter = TopologicalSorter(before)
    with contextlib.suppress(CycleError):
        sorter.prepare()  # goes on as far as circles let it, if it was told of one
    reached: set[str] = set()
    while ready := sorter.get_ready():
        reached.update(ready)
        sorter.done(*ready)
    return {node for own, others in before.items() for node in (own, *others)} - reached


_OTHER = aliased(LineageRow)
_WITHIN = select(LineageRow.child_digest, LineageRow.parent_digest).where(
    exists().where(_OTHER.parent_digest == LineageRow.child_digest),
    exists().where(_OTHER.child_digest == LineageRow.parent_digest),
)
"""The edges whose child is a parent and whose parent is a child: no others can lie on a circle."""
