"""How a column is compared with the values of a query, the same on both engines; every value is bound."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, Select, String, Table, and_, any_, bindparam, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.visitors import ExternallyTraversible, InternalTraversal, replacement_traverse

from ual_registry.registry.blanks import Blank
from ual_registry.registry.values import Span

__all__ = [
    "Condition",
    "Values",
    "among",
    "bound_list",
    "joined",
    "lies",
    "lies_in",
    "matches",
    "one_of_few",
    "plain",
    "unindexed",
]

_GROUP = 25
"""So many conditions are joined on one level."""

Condition = ColumnElement[bool]
Values = tuple[Any, ...]


class _Unindexed(ColumnElement[Any]):
    """A column by whose value nothing is looked up."""

    inherit_cache = True
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement)]  # noqa: RUF012  # as SQLAlchemy reads it

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column
        self.type = column.type


@compiles(_Unindexed)
def _compile(element: _Unindexed, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.column, **options))


@compiles(_Unindexed, "sqlite")
def _compile_sqlite(element: _Unindexed, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.column, **options)}"


def plain(attribute: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """Return a column by whose value nothing is looked up; to change a finished condition takes longer."""
    return _Unindexed(attribute.property.columns[0])


class _OneOfFew(ColumnElement[bool]):
    """A column that is equal to one of few values, which are looked up once.

    PostgreSQL then compares them in the index that it walks; it joins what ``IN`` asks for, which takes ten times as
    long for each row.
    """

    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012  # as SQLAlchemy reads it
        ("column", InternalTraversal.dp_clauseelement),
        ("found", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, column: ColumnElement[Any], found: Select[Any]) -> None:
        self.column, self.found, self.type = column, found, Boolean()


@compiles(_OneOfFew)
def _compile_few(element: _OneOfFew, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.column.in_(element.found), **options))


@compiles(_OneOfFew, "postgresql")
def _compile_few_postgresql(element: _OneOfFew, compiler: Any, **options: Any) -> str:
    listed = func.array(element.found.scalar_subquery())
    return f"({compiler.process(element.column == any_(listed), **options)})"


def one_of_few(column: ColumnElement[Any], found: Select[Any]) -> Condition:
    """Compare a column with the few values that a select finds, where the column is checked and not looked up by."""
    return _OneOfFew(column, found)


class _Group(ColumnElement[bool]):
    """A condition in parentheses, which SQLAlchemy would take away."""

    inherit_cache = True
    _traverse_internals = [("inner", InternalTraversal.dp_clauseelement)]  # noqa: RUF012  # as SQLAlchemy reads it

    def __init__(self, inner: ColumnElement[bool]) -> None:
        self.inner = inner
        self.type = inner.type


@compiles(_Group)
def _compile_group(element: _Group, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.inner, **options)})"


def joined(join: Callable[..., Condition], parts: Sequence[Condition]) -> Condition:
    """Join conditions in groups: SQLite counts each word ``AND`` as a level, and takes 1,000."""
    while len(parts) > _GROUP:
        parts = [_Group(join(*parts[at : at + _GROUP])) for at in range(0, len(parts), _GROUP)]
    return join(*parts)


def unindexed(where: Condition, owner: Table) -> Condition:
    """Keep SQLite from looking up by what is to be checked; it may believe that this were rarer than one row.

    Args:
        where: What is to be checked.
        owner: The table whose row is found already.
    """

    def replaced(element: ExternallyTraversible, **_: Any) -> ExternallyTraversible | None:
        if isinstance(element, Column) and element.table is owner:
            return _Unindexed(element)
        return None

    found: Condition = replacement_traverse(where, {}, replaced)
    return found


def matches(found: Any, values: Values, *, fold: bool, is_folded: bool = False) -> Condition:
    """Compare a text with several, of which one must be equal to it or its beginning.

    Args:
        found: The text.
        values: What it is compared with, with blanks for their texts.
        fold: Whether the case of A to Z makes no difference.
        is_folded: Whether the text stands there in lower case already.
    """
    texts = [value.text.read("folded") if fold else value.text for value in values]
    compared = func.lower(found) if fold and not is_folded else found
    exact = [text.bound() for text, value in zip(texts, values, strict=True) if not value.is_prefix]
    prefixes = [text for text, value in zip(texts, values, strict=True) if value.is_prefix]
    parts = [compared.in_(exact)] if len(exact) > 1 else [compared == text for text in exact]
    return or_(*parts, *(_begins(compared, text) for text in prefixes))


def _begins(found: Any, prefix: Blank) -> Condition:
    """Compare by order, which an index knows; the order is that of code points on both engines."""
    if prefix.is_endless:
        return found >= prefix  # type: ignore[no-any-return]  # a column compares so
    behind = prefix.read("folded_after" if prefix.reading == "folded" else "after")
    return and_(found >= prefix, found < behind)


def among(column: ColumnElement[Any], name: str, *, is_sqlite: bool) -> Condition:
    """Compare with many values by one bound value, so that the statement is the same for any number of them.

    Args:
        column: The column.
        name: Of the bound value; see ``bound_list``.
        is_sqlite: For which of them.
    """
    if is_sqlite:
        listed = func.json_each(bindparam(name, type_=String)).table_valued("value")
        return column.in_(select(listed.c.value))
    parts = func.string_to_array(bindparam(name, type_=String), ",")
    keys = select(func.unnest(parts, type_=column.type)).scalar_subquery()
    return column == any_(func.array(keys))  # how many there are, no plan depends on


def bound_list(values: Sequence[str], *, is_sqlite: bool) -> Any:
    """Return many values without commas as the one that ``among`` compares with: what each engine reads soonest."""
    return json.dumps(values) if is_sqlite else ",".join(values)


def lies(found: Any, span: Span) -> Condition:
    """Compare a number with the ends of a span."""
    parts = []
    if span.low is not None:
        parts.append(found >= span.low if span.includes_low else found > span.low)
    if span.high is not None:
        parts.append(found <= span.high if span.includes_high else found < span.high)
    return and_(*parts)


def lies_in(found: Any, values: Values) -> Condition:
    """Compare a number with several spans, of which one must hold it."""
    return or_(*(lies(found, span) for span in values))
