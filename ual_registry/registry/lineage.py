"""What an artifact was made from, and what was made from it: recursive queries over the edges.

Each question is one statement however deep the graph is. Without a depth the walk keeps a set of digests, so that it
ends even where other hands wrote a circle; with a depth, the depth ends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import CTE, Select, literal, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session

from ual_registry.errors import RegistryNotFoundError
from ual_registry.registry.describe import DISPATCHES_TO
from ual_registry.registry.tables import ArtifactRow, BaseModelRow, LineageRow, RevisionRow
from ual_registry.registry.views import LineageEdge, LineageGraph, LineageNode

__all__ = ["RELATIONS", "LineageOrder", "check_known", "descendants", "lineage"]

RELATIONS = (
    "trained_from",
    "converted_from",
    "projected_from",
    "distilled_from",
    "merged_from",
    "quantized_from",
    DISPATCHES_TO,
)
"""How an artifact can be made from another (spec: lineage), and how a router depends on its adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageOrder:
    """How far a lineage is followed.

    Attributes:
        up: Whether to follow the parents.
        down: Whether to follow the children.
        depth: How many generations; ``None`` follows to the ends.
        relations: Which edges; empty follows all.
    """

    up: bool = True
    down: bool = True
    depth: int | None = None
    relations: Sequence[str] = ()


def lineage(session: Session, digest: str, order: LineageOrder) -> LineageGraph:
    """Return the graph around an artifact.

    Args:
        session: An open session.
        digest: The artifact.
        order: How far.
    """
    walks = [_up(digest, order)] * order.up + [_down(digest, order)] * order.down
    edges = _edges(session, walks)
    digests = {digest} | {edge.child for edge in edges} | {edge.parent for edge in edges}
    return LineageGraph(root=digest, nodes=_nodes(session, digest, walks, digests), edges=tuple(sorted(edges)))


def check_known(session: Session, digest: str) -> None:
    """Check that a digest is that of an artifact, of a tombstone, or of somebody's parent.

    Raises:
        RegistryNotFoundError: Nothing here knows it.
    """
    artifact = select(ArtifactRow.digest).where(ArtifactRow.digest == digest)
    parent = select(LineageRow.parent_digest).where(LineageRow.parent_digest == digest)
    if session.execute(artifact.union(parent)).first() is None:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})


def descendants(digest: str) -> Select[str]:
    """Return a select of the digests of everything that was made from an artifact, directly or over others."""
    reached = select(LineageRow.child_digest.label("digest")).where(LineageRow.parent_digest == digest)
    found = reached.cte(recursive=True)
    further = select(LineageRow.child_digest).join(found, LineageRow.parent_digest == found.c.digest)
    return select(found.union(further).c.digest)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The digests that a walk reaches, its own first.

    Attributes:
        here: The end of an edge that it comes from.
        reached: Column ``digest``, and ``depth`` where there is a limit.
        order: How far.
    """

    here: InstrumentedAttribute[str]
    reached: CTE
    order: LineageOrder

    def digests(self) -> Select[str]:
        """Return every digest."""
        return select(self.reached.c.digest)

    def edges(self) -> Select[*tuple[str, ...]]:
        """Return every edge that the walk goes along."""
        starts = self.digests()
        if self.order.depth is not None:
            starts = starts.where(self.reached.c.depth < self.order.depth)
        found = select(LineageRow.child_digest, LineageRow.parent_digest, LineageRow.relation)
        return _followed(found.where(self.here.in_(starts)), self.order)


def _up(digest: str, order: LineageOrder) -> _Walk:
    return _walk(digest, LineageRow.child_digest, LineageRow.parent_digest, order)


def _down(digest: str, order: LineageOrder) -> _Walk:
    return _walk(digest, LineageRow.parent_digest, LineageRow.child_digest, order)


def _walk(
    digest: str, here: InstrumentedAttribute[str], there: InstrumentedAttribute[str], order: LineageOrder
) -> _Walk:
    start = select(here.label("digest"))  # a column and no value, which would have another collation
    if order.depth is None:
        reached = start.where(here == digest).cte(recursive=True)
        further = select(there).join(reached, here == reached.c.digest)
    else:
        reached = start.add_columns(literal(0).label("depth")).where(here == digest).cte(recursive=True)
        further = select(there, reached.c.depth + 1).join(reached, here == reached.c.digest)
        further = further.where(reached.c.depth < order.depth)
    return _Walk(here, reached.union(_followed(further, order)), order)


def _followed(statement: Select[*tuple[str, ...]], order: LineageOrder) -> Select[*tuple[str, ...]]:
    return statement.where(LineageRow.relation.in_(order.relations)) if order.relations else statement


def _edges(session: Session, walks: Sequence[_Walk]) -> set[LineageEdge]:
    if not walks:
        return set()
    found = session.execute(union(*(walk.edges() for walk in walks)))
    return {LineageEdge(child=child, parent=parent, relation=relation) for child, parent, relation in found}


def _nodes(session: Session, root: str, walks: Sequence[_Walk], wanted: Iterable[str]) -> dict[str, LineageNode]:
    """Return a node for every digest that is wanted; one that has no row is not known here."""
    own = select(ArtifactRow.digest).where(ArtifactRow.digest == root)
    statement = (
        select(
            ArtifactRow.digest,
            ArtifactRow.deleted_at,
            BaseModelRow.label,
            RevisionRow.adapter_name,
            RevisionRow.number,
        )
        .join(BaseModelRow, BaseModelRow.id == ArtifactRow.base_model_id, isouter=True)
        .join(RevisionRow, RevisionRow.artifact_id == ArtifactRow.id, isouter=True)
        .where(ArtifactRow.digest.in_(union(own, *(walk.digests() for walk in walks)) if walks else own))
    )
    found: dict[str, LineageNode] = {}
    names: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for digest, deleted_at, base, name, number in session.execute(statement):
        state = "present" if deleted_at is None else "deleted"
        found[digest] = LineageNode(digest=digest, base=base, state=state)
        if name is not None:
            names[digest].append((name, number))
    return {digest: _named(found.get(digest), digest, names[digest]) for digest in sorted(wanted)}


def _named(node: LineageNode | None, digest: str, names: Sequence[tuple[str, int]]) -> LineageNode:
    if node is None:
        return LineageNode(digest=digest, state="unknown")
    shown = tuple(f"{name}@{number}" for name, number in sorted(names))
    return LineageNode(digest=digest, names=shown, base=node.base, state=node.state)
