"""What reading answers with: revisions, adapters and lineages as frozen records, free of the database."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = [
    "AdapterRecord",
    "LineageEdge",
    "LineageGraph",
    "LineageNode",
    "Measurement",
    "Page",
    "RevisionRecord",
    "RoleSummary",
    "on_all_pages",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSummary:
    """The entries of one role and rank.

    Attributes:
        stack: ``encoder``, ``decoder`` or ``None``.
        role: What the target modules do.
        rank: Rank of the factors.
        entry_count: How many entries.
        first_layer: The first block; ``None`` outside the blocks.
        last_layer: The last block; ``None`` outside the blocks.
    """

    stack: str | None
    role: str
    rank: int
    entry_count: int
    first_layer: int | None
    last_layer: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measured number.

    Attributes:
        metric: What was measured.
        value: The result.
        low: Lower end of its interval.
        high: Upper end of its interval.
        sample_count: Examples.
        arm: Which model was measured, such as ``adapter`` or ``base``.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    sample_count: int | None
    arm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A revision and what is known of its artifact.

    Attributes:
        name: The adapter's name.
        number: The revision's number in its adapter, from 1.
        digest: Digest of the bytes.
        created_at: When the revision was added, UTC.
        owner: Who answers for the adapter.
        aliases: Aliases that point here, sorted.
        tags: Tags by key, sorted; the value is empty where there is none.
        kind: ``adapter`` or ``router``.
        title: The name that the file gives itself.
        base: Label of the base model; ``None`` for a router.
        architecture: Binder of the base model; ``None`` for a router.
        method: ``lora``, or the projection that made it.
        domain: The field that it serves, where stated.
        license: SPDX expression, where stated.
        ranks: Every rank that an entry has, ascending.
        roles: Every role that an entry has, sorted.
        targets: Its entries in short.
        parameter_count: Numbers held by the factors.
        size_bytes: Size of the stored bytes.
        recovered_gain: Share of the source's gain that a transfer kept, where measured.
        evaluations: What was measured, in the file's order.
        yank_reason: Why it is hidden from lists and searches; ``None`` where it is not.
    """

    name: str
    number: int
    digest: str
    created_at: datetime.datetime
    owner: str | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    kind: str
    title: str | None
    base: str | None
    architecture: str | None
    method: str
    domain: str | None
    license: str | None
    ranks: tuple[int, ...]
    roles: tuple[str, ...]
    targets: tuple[RoleSummary, ...]
    parameter_count: int
    size_bytes: int
    recovered_gain: float | None
    evaluations: tuple[Measurement, ...]
    yank_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """An adapter: how many revisions it has, and the newest that is not hidden."""

    name: str
    revision_count: int
    newest: RevisionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list that may go on.

    Attributes:
        items: What is on it.
        next: The cursor of the page after this one; ``None`` at the end.
    """

    items: tuple[T, ...]
    next: str | None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        return self.items[index]


def on_all_pages(page_after: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield what is on all pages of a list.

    Args:
        page_after: Returns the page behind a cursor, the first one where there is none.
    """
    page = page_after(None)
    yield from page
    while page.next is not None:
        page = page_after(page.next)
        yield from page


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """An artifact in a lineage.

    Attributes:
        digest: Its digest.
        names: The revisions that hold it, as ``name@number``, sorted.
        base: Label of its base model, where it is known.
        state: ``present``; ``deleted`` where only its tombstone is left; ``unknown`` where it never was here.
    """

    digest: str
    names: tuple[str, ...] = ()
    base: str | None = None
    state: str = "present"


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
        is_complete: Whether nothing was left out for their number.
    """

    root: str
    nodes: dict[str, LineageNode]
    edges: tuple[LineageEdge, ...]
    is_complete: bool = True

    def parents(self) -> dict[str, tuple[LineageEdge, ...]]:
        """Return, by child, the edges to what it was made from."""
        return _grouped((edge.child, edge) for edge in self.edges)

    def children(self) -> dict[str, tuple[LineageEdge, ...]]:
        """Return, by parent, the edges to what was made from it."""
        return _grouped((edge.parent, edge) for edge in self.edges)


def _grouped(edges: Iterator[tuple[str, LineageEdge]]) -> dict[str, tuple[LineageEdge, ...]]:
    found: dict[str, list[LineageEdge]] = defaultdict(list)
    for digest, edge in edges:
        found[digest].append(edge)
    return {digest: tuple(group) for digest, group in found.items()}
