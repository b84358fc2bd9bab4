"""The tree of a query, and how a mistake in its text is told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ual_registry.errors import QueryError
from ual_registry.registry.fields import DEFAULT_ORDER, FIELDS
from ual_registry.registry.values import Value

__all__ = ["All", "Any_", "Node", "Not", "Order", "Query", "Term", "Words", "leaves", "mistake_at"]

_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Term:
    """One field and what it is compared with; one of the values must hold.

    Attributes:
        field: Its name.
        values: What it is compared with.
        column: Where the values begin in the query, from 1.
    """

    field: str
    values: tuple[Value, ...]
    column: int = dataclasses.field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Words:
    """Words that stand one after the other in the texts of a revision; the last may be the beginning of one."""

    words: tuple[str, ...]
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; no part at all holds always."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any_:  # noqa: N801  # `Any` would hide typing's
    """Some part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


Node = Term | Words | All | Any_ | Not


@dataclass(frozen=True, slots=True)
class Order:
    """In which order results come."""

    field: str = DEFAULT_ORDER
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What must hold, and in which order the results come."""

    where: Node
    order: Order = Order()


def leaves(node: Node) -> Iterator[Term | Words]:
    """Yield the terms and words of a tree in the order of the query."""
    if isinstance(node, (Term, Words)):
        yield node
        return
    for part in (node.part,) if isinstance(node, Not) else node.parts:
        yield from leaves(part)


def mistake_at(text: str, column: int, message: str) -> QueryError:
    """Return an error that shows the query and points at a column, from 1; of a long query, what stands around it."""
    first = max(0, column - 1 - _SHOWN // 2) if len(text) > _SHOWN else 0
    before, after = "..." * (first > 0), "..." * (len(text) > first + _SHOWN)
    shown = re.sub(r"[\s\0\ud800-\udfff]", " ", text[first : first + _SHOWN])  # one line, so that the mark fits
    mark = " " * (len(before) + column - 1 - first) + "^"
    return QueryError(
        f"query, column {column}: {message}\n  {before}{shown}{after}\n  {mark}",
        context={"column": column},
        hint=f"fields: {', '.join(FIELDS)}",
    )
