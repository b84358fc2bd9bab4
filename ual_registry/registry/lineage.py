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

from sqlalchemy import Connection, Integer, Select, String, bindparam, exists, func, literal_column, or_, select

from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.blanks import Blank
from ual_registry.registry.conditions import among, bound_list
from ual_registry.registry.describe import DISPATCHES_TO
from ual_registry.registry.making import maker
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
    digests = {digest}.union(*(edge[:2] for edge in edges))
    return LineageGraph(
        root=digest,
        nodes=_nodes(connection, sorted(digests)),
        edges=tuple([_edge(*edge) for edge in sorted(edges)]),
        is_complete=all(is_complete for _, is_complete in walks),
    )


def check_known(connection: Connection, digest: str) -> None:
    """Check that a digest is that of an artifact, of a tombstone, or of somebody's parent.

    Raises:
        RegistryNotFoundError: Nothing here knows it.
    """
    ((is_known,),) = _known(is_sqlite=is_sqlite(connection)).rows(connection, digest=digest)
    if not is_known:
        raise RegistryNotFoundError(f"{digest}: no such artifact in this registry", context={"digest": digest})


@functools.cache
def _known(*, is_sqlite: bool) -> Statement:
    """Return the statement that looks for a digest; some are the parents of thousands, of which one is enough."""
    digest = bindparam("digest", type_=String)
    places = (ArtifactRow.digest, LineageRow.parent_digest)
    return prepared(select(or_(*(exists().where(place == digest) for place in places))), is_sqlite=is_sqlite)


def descendants(digest: str | Blank) -> Select[str]:
    """Return a select of the digests of everything that was made from an artifact, directly or over others."""
    reached = select(LineageRow.child_digest.label("digest")).where(LineageRow.parent_digest == digest)
    found = reached.cte(recursive=True)
    further = select(LineageRow.child_digest).join(found, LineageRow.parent_digest == found.c.digest)
    return select(found.union(further).c.digest)


_EDGES = Table.metadata.tables["lineage_edges"]
_UP, _DOWN = ("child_digest", "parent_digest"), ("parent_digest", "child_digest")
"""The ends of an edge where a walk comes from, and where it goes."""


_edge, _made_node = maker(LineageEdge), maker(LineageNode)


def _edges(
    connection: Connection, way: tuple[str, str], digest: str, order: LineageOrder
) -> tuple[Sequence[tuple[str, str, str]], bool]:
    """Return child, parent and relation of the edges of one way, and whether those are all."""
    if order.depth == 0:
        return [], True
    on_sqlite = is_sqlite(connection)
    given: dict[str, Any] = {"digest": digest}
    if order.depth is not None:
        given["depth"] = order.depth
    if order.limit is not None:
        given["at_most"] = order.limit + 1
    if order.relations:
        given["relations"] = bound_list(order.relations, is_sqlite=on_sqlite)
    found = _walk(way, frozenset(given), is_sqlite=on_sqlite).rows(connection, **given)
    kept = found if order.limit is None else found[: order.limit]
    return [(row[0], row[1], row[2]) for row in kept], len(kept) == len(found)


@functools.cache
def _walk(way: tuple[str, str], given: frozenset[str], *, is_sqlite: bool) -> Statement:
    """Return the statement of one way, which depends on the names of what is given and not on the values."""
    here, there = way
    columns = (_EDGES.c.child_digest, _EDGES.c.parent_digest, _EDGES.c.relation)
    followed = [among(_EDGES.c.relation, "relations", is_sqlite=is_sqlite)] if "relations" in given else []
    start = select(*columns).where(_EDGES.c[here] == bindparam("digest", type_=String), *followed)
    further, at_most = select(*columns).where(*followed), bindparam("at_most", type_=Integer)
    if "depth" in given:
        start = start.add_columns(literal_column("1").label("depth"))
    if "at_most" in given:  # before anything is walked, the first generation is read; where that is enough, it is all
        first = start.order_by(_EDGES.c[there], _EDGES.c.relation).limit(at_most).cte("first")
        start = select(first)
        further = further.where(select(func.count()).select_from(first).scalar_subquery() < at_most)
    reached = start.cte(recursive=True)
    if "depth" in given:
        is_near = reached.c.depth < bindparam("depth", type_=Integer)
        further = further.add_columns(reached.c.depth + 1).where(is_near)
    walk = reached.union(further.join(reached, _EDGES.c[here] == reached.c[there]))
    found = select(walk.c.child_digest, walk.c.parent_digest, walk.c.relation)
    return prepared(found.limit(at_most) if "at_most" in given else found, is_sqlite=is_sqlite)


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
    _, deleted_at, base, name, number = rows[0]
    names: tuple[str, ...] = () if name is None else (f"{name}@{number}",)
    if len(rows) > 1:
        names = tuple([f"{name}@{number}" for name, number in sorted([row[3:] for row in rows])])
    return _made_node(digest, names, base, "present" if deleted_at is None else "deleted")
