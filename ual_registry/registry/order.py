"""In which order results come, and where a page goes on: keyset pages, which stay right while rows are added.

A cursor holds the sort key of the last row, the order and a digest of the question; it is opaque to its user and
checked like everything that comes from outside.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, false, func, or_
from sqlalchemy.orm import InstrumentedAttribute

from ual_registry.digest import Digest
from ual_registry.errors import RegistryError
from ual_registry.registry.cursor import pack, unpack
from ual_registry.registry.moments import utc
from ual_registry.registry.reference import quoted
from ual_registry.registry.tables import ArtifactRow, RevisionRow
from ual_registry.registry.tree import Order

__all__ = ["Sorting", "read_cursor", "sorting", "write_cursor"]

Key = tuple[Any, ...]

_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "name": RevisionRow.adapter_name,
    "created": RevisionRow.created_at,
    "size": ArtifactRow.size_bytes,
    "params": ArtifactRow.parameter_count,
    "rank": ArtifactRow.rank_max,
    "recovered": ArtifactRow.recovered_gain,
}
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorting:
    """The columns that rows are sorted by; the last tells all rows apart, and only the first may be without a value.

    Attributes:
        columns: Each with whether it goes down.
    """

    columns: tuple[tuple[InstrumentedAttribute[Any], bool], ...]

    @property
    def is_about_artifacts(self) -> bool:
        """Whether a column stands in ``ArtifactRow``; the others stand in ``RevisionRow``."""
        return any(column.class_ is ArtifactRow for column, _ in self.columns)

    def named(self) -> list[tuple[str, InstrumentedAttribute[Any]]]:
        """Return the columns with the names that they have among other columns of a row."""
        return [(f"key_{number}", column) for number, (column, _) in enumerate(self.columns)]

    def by(self, *, is_indexed: bool = True, of: Subquery | None = None) -> list[ColumnElement[Any]]:
        """Return what to sort by; a missing value counts as the smallest.

        Args:
            is_indexed: Whether an index may be read in this order; otherwise what is found is sorted.
            of: Rows that have the columns by their names; ``None`` for those of the tables.
        """
        parts: list[ColumnElement[Any]] = []
        for number, (column, is_descending) in enumerate(self.columns):
            named = column if of is None else of.c[self.named()[number][0]]
            sorted_by = _unindexed(named) if number == 0 and not is_indexed else named
            part = sorted_by.desc() if is_descending else sorted_by.asc()
            if number == 0 and _is_nullable(column):
                part = part.nulls_last() if is_descending else part.nulls_first()
            parts.append(part)
        return parts

    def after(self, key: Sequence[Any]) -> ColumnElement[bool]:
        """Return what holds for the rows behind one with this sort key, of values or parameters."""
        (first, first_down), (second, second_down) = self.columns
        behind = second < key[1] if second_down else second > key[1]
        if key[0] is None:
            return and_(first.is_(None), behind) if first_down else or_(first.is_not(None), behind)
        beyond = first < key[0] if first_down else first > key[0]
        same = and_(first == key[0], behind)
        if not _is_nullable(first):
            # The first condition is there for the index: it says where to begin.
            return and_(first <= key[0] if first_down else first >= key[0], or_(beyond, same))
        return or_(beyond, same, first.is_(None) if first_down else false())


def sorting(order: Order) -> Sorting:
    """Return how an order sorts: revisions of one name newest first, others by the order in which they came."""
    down = order.is_descending
    if order.field == "name":
        return Sorting(columns=((RevisionRow.adapter_name, down), (RevisionRow.number, True)))
    return Sorting(columns=((_COLUMNS[order.field], down), (RevisionRow.id, down)))


def _is_nullable(column: InstrumentedAttribute[Any]) -> bool:
    return bool(column.property.columns[0].nullable)


def _unindexed(column: Any) -> ColumnElement[Any]:
    """Return an expression that is equal to a column and that no index holds."""
    return func.coalesce(column, column)


def write_cursor(order: Order, question: object, key: Sequence[Any]) -> str:
    """Return the cursor behind a row.

    Args:
        order: In which order the rows come.
        question: What was asked; its ``repr`` must tell questions apart.
        key: The sort key of the row.
    """
    values = [
        utc(value).isoformat() if is_moment else value for value, is_moment in zip(key, _moments(order), strict=True)
    ]
    document = {"order": _name(order), "of": _mark(question), "key": values}
    return pack(document)


def read_cursor(cursor: str, order: Order, question: object) -> Key:
    """Return the sort key of the row that a page goes on behind.

    Raises:
        RegistryError: It is none of this question and this order.
    """
    document = unpack(cursor)
    try:
        is_ours = (document["order"], document["of"]) == (_name(order), _mark(question))
        key = _key(document["key"], sorting(order)) if is_ours else None
    except (ValueError, KeyError, TypeError, OverflowError):
        key = None
    if key is None:
        raise RegistryError(
            f"cursor {quoted(cursor)}: none of this question in this order",
            code="cursor",
            hint="take the one at the end of a page of the same question, or leave it out to begin",
        )
    return key


@functools.cache
def _moments(order: Order) -> tuple[bool, ...]:
    """Return which parts of a sort key are moments, which JSON does not know."""
    return tuple(column.type.python_type is datetime.datetime for column, _ in sorting(order).columns)


def _name(order: Order) -> str:
    return "-" * order.is_descending + order.field


def _mark(question: object) -> str:
    return Digest.of_bytes(repr(question).encode("utf-8", "surrogatepass")).hex[:12]


def _key(values: Any, own: Sorting) -> Key | None:
    """Check the values of a key by the types of the columns."""
    if not isinstance(values, list) or len(values) != len(own.columns):
        return None
    return tuple(_checked(value, column) for value, (column, _) in zip(values, own.columns, strict=True))


def _checked(value: Any, column: InstrumentedAttribute[Any]) -> Any:
    """Return a value that a column can hold.

    Raises:
        ValueError: It cannot.
    """
    kind = column.type.python_type
    if value is None and _is_nullable(column):
        return None
    if kind is datetime.datetime:
        return datetime.datetime.fromisoformat(value).astimezone(datetime.UTC)
    if kind is float and type(value) in {int, float} and math.isfinite(value):
        return float(value)
    if kind is int and type(value) is int and abs(value) <= _LARGEST:
        return value
    if kind is str and isinstance(value, str) and value.isascii() and "\0" not in value:
        return value
    raise ValueError(value)
