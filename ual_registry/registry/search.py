"""From the tree of a query to SQL conditions: one small function per kind of field, bound values only."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, not_, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from ual_registry.registry.query import All, Any_, Comparison, Node, Not
from ual_registry.registry.tables import AdapterRow, ArtifactRow, BaseModelRow, EntryRow

__all__ = ["condition"]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ":": operator.eq,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def condition(node: Node) -> ColumnElement[bool]:
    """Return the SQL condition of a query, for a select that joins adapter, artifact and base model."""
    if isinstance(node, Comparison):
        return _FIELDS[node.field](node)
    if isinstance(node, Not):
        return not_(condition(node.part))
    parts = [condition(part) for part in node.parts]
    if isinstance(node, Any_):
        return or_(false(), *parts)
    assert isinstance(node, All)  # the tree has four kinds of nodes
    return and_(true(), *parts)


def _text(column: InstrumentedAttribute[Any]) -> Callable[[Comparison], ColumnElement[bool]]:
    """Compare without regard to case, as far as the database knows it; absent text equals nothing."""

    def compare(term: Comparison) -> ColumnElement[bool]:
        """Compare one column with the term's value."""
        return func.coalesce(func.lower(column) == func.lower(term.value), false())

    return compare


def _base(term: Comparison) -> ColumnElement[bool]:
    """A base model is found by its label, the last part of its label, its architecture or its model type."""
    value = func.lower(term.value)
    label = func.lower(BaseModelRow.label)
    last_part = "%/" + re.sub(r"([\\%_])", r"\\\1", str(term.value))
    return or_(
        label == value,
        label.like(func.lower(last_part), escape="\\"),
        func.lower(BaseModelRow.architecture) == value,
        func.lower(BaseModelRow.model_type) == value,
    )


def _entry(column: InstrumentedAttribute[Any]) -> Callable[[Comparison], ColumnElement[bool]]:
    def compare(term: Comparison) -> ColumnElement[bool]:
        """Look for an entry whose column compares so with the value."""
        found = _OPERATORS[term.operator](column, term.value)
        return exists().where(EntryRow.artifact_digest == ArtifactRow.digest, found)

    return compare


_FIELDS: dict[str, Callable[[Comparison], ColumnElement[bool]]] = {
    "base": _base,
    "role": _entry(EntryRow.role),
    "rank": _entry(EntryRow.rank),
    "domain": _text(ArtifactRow.domain),
    "name": _text(AdapterRow.name),
    "method": _text(ArtifactRow.method),
    "license": _text(ArtifactRow.license),
}
