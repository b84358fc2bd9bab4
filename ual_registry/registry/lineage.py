"""What an artifact was made from, and what was made from it: recursive queries over the edges.

Each way is one statement however deep the graph is. It goes along the edges generation by generation, so that one that
is cut short holds the nearest. Without a depth it meets every edge once, so that it ends even where other hands wrote a
circle; with a depth, the depth ends it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, literal, select

from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.blanks import Blank
from ual_registry.registry.conditions import among, bound_list
from ual_registry.registry.describe import DISPATCHES_TO
from ual_registry.registry.reference import quoted
from ual_registry.registry.statements import Statement, is_sqlite, prepared
from ual_registry.registry.tables import ArtifactRow, LineageRow, Table
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
        limit: How many edges each way at most; ``None`` follows all.
    """

    up: bool = True
    down: bool = True
    depth: int | None = None
    relations: Sequence[str] = ()
    limit: int | None = None

    def check(self) -> None:
        """Check the bounds and the relations.

        Raises:
            RegistryError: A bound is too small or too large, or there is no such relation.
        """
        for what, value, least in (("depth", self.depth, 0), ("limit", self.limit, 1)):
            if value is not None and not least <= value < _LARGEST:
                message = f"{what} {value}: expected at least {least}, and less than 2^31"
                raise RegistryError(message, code="limit", context={what: value})
        for relation in self.relations:
            if relation not in RELATIONS:
                raise RegistryError(
                    f"relation {quoted(relation)}: expected one of {', '.join(RELATIONS)}",
                    code="text",
                    context={"relation": relation[:100]},
                )


_LARGEST = 2**31 - 1


def lineage(connection: Connection, digest: str, order: LineageOrder) -> LineageGraph:
    """Return the graph around an artifact.

    Args:
        connection: An open connection.
        digest: The artifact.
        order: How far.
    """
    ways = [_UP] * order.up + [_DOWN] * order.down
    walks = [_edges(connection, way, digest, order) for way in ways]
    edges = {edge for found, _ in walks for edge in found}
    digests = {digest} | {edge.child for edge in edges} | {edge.parent for edge in edges}
    return LineageGraph(
        root=digest,
        nodes=_nodes(connection, sorted(digests)),
        edges=tuple(sorted(edges, key=lambda edge: (edge.child, edge.parent, edge.relation))),
        is_complete=all(is_complete for _, is_complete in walks),
    )


def check_known(connection: Connection, digest: str) -> None:
    """Check that a digest is that of an artifact, of a tombstone, or of somebody's parent.

    Raises:
        RegistryNotFoundError: Nothing here knows it.
    """
    artifact = select(ArtifactRow.digest).where(ArtifactRow.digest == digest)
    parent = select(LineageRow.parent_digest).where(LineageRow.parent_digest == digest)
    if connection.execute(artifact.union(parent)).first() is None:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})


def descendants(digest: str | Blank) -> Select[str]:
    """Return a select of the digests of everything that was made from an artifact, directly or over others."""
    reached = select(LineageRow.child_digest.label("digest")).where(LineageRow.parent_digest == digest)
    found = reached.cte(recursive=True)
    further = select(LineageRow.child_digest).join(found, LineageRow.parent_digest == found.c.digest)
    return select(found.union(further).c.digest)


_EDGES = Table.metadata.tables["lineage_edges"]
_UP, _DOWN = ("child_digest", "parent_digest"), ("parent_digest", "child_digest")
"""The ends of an edge where a walk comes from, and where it goes."""


def _edges(
    connection: Connection, way: tuple[str, str], digest: str, order: LineageOrder
) -> tuple[list[LineageEdge], bool]:
    """Return the edges of one way, and whether those are all."""
    if order.depth == 0:
        return [], True
    statement = _walk(way, digest, order)
    if order.limit is not None:
        statement = statement.limit(order.limit + 1)
    found = connection.execute(statement).all()
    kept = found[: order.limit]
    return [LineageEdge(child=row[0], parent=row[1], relation=row[2]) for row in kept], len(kept) == len(found)


def _walk(way: tuple[str, str], digest: str, order: LineageOrder) -> Select[Any]:
    here, there = way
    columns = (_EDGES.c.child_digest, _EDGES.c.parent_digest, _EDGES.c.relation)
    start, further = select(*columns).where(_EDGES.c[here] == digest), select(*columns)
    if order.depth is not None:
        start = start.add_columns(literal(1).label("depth"))
    start = _followed(start, order)
    if order.limit is not None:  # before anything is walked, the first generation is read
        start = select(start.order_by(_EDGES.c[there], _EDGES.c.relation).limit(order.limit + 1).subquery())
    reached = start.cte(recursive=True)
    if order.depth is not None:
        further = further.add_columns(reached.c.depth + 1).where(reached.c.depth < order.depth)
    further = further.join(reached, _EDGES.c[here] == reached.c[there])
    walk = reached.union(_followed(further, order))
    return select(walk.c.child_digest, walk.c.parent_digest, walk.c.relation)


def _followed(statement: Select[Any], order: LineageOrder) -> Select[Any]:
    return statement.where(_EDGES.c.relation.in_(order.relations)) if order.relations else statement


def _nodes(connection: Connection, wanted: Sequence[str]) -> dict[str, LineageNode]:
    """Return a node for every digest that is wanted; one that has no row is not known here."""
    on_sqlite = is_sqlite(connection)
    keys = bound_list(wanted, is_sqlite=on_sqlite)
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in _nodes_statement(is_sqlite=on_sqlite).rows(connection, keys=keys):
        rows[row[0]].append(row)
    return {digest: _node(digest, rows[digest]) for digest in wanted}


@functools.cache
def _nodes_statement(*, is_sqlite: bool) -> Statement:
    tables = Table.metadata.tables
    artifacts, bases, revisions = tables["artifacts"], tables["base_models"], tables["revisions"]
    statement = (
        select(artifacts.c.digest, artifacts.c.deleted_at, bases.c.label, revisions.c.adapter_name, revisions.c.number)
        .select_from(artifacts)
        .join(bases, bases.c.id == artifacts.c.base_model_id, isouter=True)
        .join(revisions, revisions.c.artifact_id == artifacts.c.id, isouter=True)
        .where(among(artifacts.c.digest, "keys", is_sqlite=is_sqlite))
    )
    return prepared(statement, is_sqlite=is_sqlite)


def _node(digest: str, rows: Sequence[Any]) -> LineageNode:
    """Return a node from its rows, one for each revision."""
    if not rows:
        return LineageNode(digest=digest, state="unknown")
    _, deleted_at, base, *_ = rows[0]
    names = sorted([(row[3], row[4]) for row in rows if row[3] is not None])
    return LineageNode(
        digest=digest,
        names=tuple([f"{name}@{number}" for name, number in names]),
        base=base,
        state="present" if deleted_at is None else "deleted",
    )
