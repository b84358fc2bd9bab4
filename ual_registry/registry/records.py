"""What the registry answers with: frozen records, free of the database."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

__all__ = ["AdapterRecord", "AddResult", "AliasMove", "LineageEdge", "LineageGraph", "LineageNode", "RevisionRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A revision and what is known of its artifact.

    Attributes:
        name: The adapter's name.
        number: The revision's number in its adapter, from 1.
        digest: Digest of the bytes.
        created_at: When the revision was added, UTC.
        aliases: Aliases that point here, sorted.
        base: Label of the base model.
        architecture: Binder of the base model.
        method: ``lora``, or the projection that made it.
        domain: The field that it serves, where stated.
        ranks: Every rank that an entry has, ascending.
        roles: Every role that an entry has, sorted.
        parameter_count: Numbers held by the factors.
        size_bytes: Size of the stored bytes.
    """

    name: str
    number: int
    digest: str
    created_at: datetime.datetime
    aliases: tuple[str, ...]
    base: str
    architecture: str
    method: str
    domain: str | None
    ranks: tuple[int, ...]
    roles: tuple[str, ...]
    parameter_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """An adapter: its newest revision, and how many there are."""

    name: str
    revision_count: int
    newest: RevisionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AddResult:
    """What ``add`` did.

    Attributes:
        name: The adapter's name.
        number: The revision that holds the bytes.
        digest: Digest of the bytes.
        is_new: Whether the revision was made now; the same bytes under the same name are the same revision.
        moves: The aliases that were set.
    """

    name: str
    number: int
    digest: str
    is_new: bool
    moves: tuple[AliasMove, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """An alias before and after.

    Attributes:
        name: The adapter's name.
        alias: The alias.
        previous: The revision that it pointed to; ``None`` where it is new.
        number: The revision that it points to.
    """

    name: str
    alias: str
    previous: int | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """An artifact in a lineage.

    Attributes:
        digest: Its digest.
        names: The revisions that hold it, as ``name@number``, sorted; empty where it is not registered.
        base: Label of its base model, where it is registered.
    """

    digest: str
    names: tuple[str, ...] = ()
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LineageEdge:
    """``child`` was made from ``parent``."""

    child: str
    parent: str
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageGraph:
    """Ancestors and descendants of one artifact.

    Attributes:
        root: The digest that was asked for.
        nodes: Every artifact by digest.
        edges: Every edge, sorted.
    """

    root: str
    nodes: dict[str, LineageNode]
    edges: tuple[LineageEdge, ...]

    def parents(self, digest: str) -> tuple[LineageEdge, ...]:
        """Return the edges from ``digest`` to what it was made from."""
        return tuple(edge for edge in self.edges if edge.child == digest)

    def children(self, digest: str) -> tuple[LineageEdge, ...]:
        """Return the edges from ``digest`` to what was made from it."""
        return tuple(edge for edge in self.edges if edge.parent == digest)
