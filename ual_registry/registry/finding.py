"""The statement of a page: which revisions, in order, and what is shown of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Subquery, any_, bindparam, exists, func, literal_column, select
from sqlalchemy.orm import aliased

from ual_registry.registry.blanks import Blank
from ual_registry.registry.conditions import Condition
from ual_registry.registry.details import COLUMNS
from ual_registry.registry.order import Sorting, sorting
from ual_registry.registry.plan import WALK, Start, plan_of
from ual_registry.registry.search import Searcher
from ual_registry.registry.sources import Source
from ual_registry.registry.statements import Statement, prepared
from ual_registry.registry.tables import ArtifactRow, BaseModelRow, RevisionRow, Table
from ual_registry.registry.tree import All, Node, Order, Term, Words, leaves
from ual_registry.registry.values import Text

__all__ = ["KEY_NAMES", "Asked", "What", "key_types", "page_statement"]

KEY_NAMES = ("key_first", "key_second")
"""The parameters of the sort key that a page goes on behind."""

_VISIBLE = Term("yanked", (Text("false"),))


class What(StrEnum):
    """What a page holds."""

    REVISIONS = "revisions"
    ADAPTERS = "adapters"
    OF_ADAPTER = "revisions of one adapter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a page is asked for, but for the values.

    Attributes:
        what: What it holds.
        where: What must hold, with blanks.
        order: In which order.
        start: How it is begun.
        exact: A config digest for adapters, where one is asked for; the name for the revisions of one.
    """

    what: What
    where: Node
    order: Order
    start: Start = WALK
    exact: Blank | None = None


def key_types(key: Sequence[Any] | None) -> tuple[type, ...]:
    """Return the types of a sort key, on which the statement depends; empty on a first page."""
    return () if key is None else tuple(map(type, key))


@functools.lru_cache(maxsize=512)
def page_statement(
    asked: Asked, *, is_sqlite: bool, page_size: int | None = None, key_types: tuple[type, ...] = ()
) -> Statement:
    """Return the statement of a page; its other parameters are ``page_size`` and those of ``KEY_NAMES``.

    Its rows are those of ``details.COLUMNS``, with the sort key behind and, of adapters, how many revisions there are.
    What is shown is read when the rows are known:
    indexes alone tell which they are.

    Args:
        asked: What is asked.
        is_sqlite: For which engine.
        page_size: How many rows, as a part of the statement: PostgreSQL would keep a plan for another number. ``None``
            makes it a parameter.
        key_types: Those of the sort key that it goes on behind.
    """
    sorted_by, plan = sorting(asked.order), plan_of(Searcher(is_sqlite=is_sqlite), asked.where, asked.start)
    first, _ = sorted_by.columns[0]
    is_ordered = plan.driver is not None and plan.driver.is_ordered and asked.order == Order()
    order = None if plan.driver is None or asked.order != Order() else plan.driver.order
    is_in_order = plan.driver is None or plan.driver.link is first or is_ordered or order is not None
    sorted_by = order or sorted_by
    statement = select(RevisionRow.id, *(column.label(name) for name, column in sorted_by.named()))
    statement = statement.where(*_conditions(asked, plan.rest, is_sqlite=is_sqlite))
    if sorted_by.is_about_artifacts:
        statement = statement.join(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
    if plan.driver is not None:
        is_direct = is_sqlite or not is_in_order
        statement = statement.where(*_driven(plan.driver, is_walked=order is not None, is_direct=is_direct))
    if plan.gathered is not None:
        statement = statement.where(plan.gathered.is_among_found())
    if key_types:
        known = zip(KEY_NAMES, key_types, strict=True)
        key: list[Any] = [None if kind is type(None) else bindparam(name) for name, kind in known]
        statement = statement.where(sorted_by.after(key))
    statement = statement.order_by(*sorted_by.by(is_indexed=is_in_order))
    size: Any = bindparam("page_size", type_=Integer) if page_size is None else literal_column(str(page_size))
    found = statement.limit(size).subquery("found")
    is_planned_once = order is not None or not _asks_for_words(asked.where)
    return prepared(_shown(found, sorted_by, asked.what), is_sqlite=is_sqlite, is_planned_once=is_planned_once)


def _shown(found: Subquery, sorted_by: Sorting, what: What) -> Select[Any]:
    """Read what is shown of the revisions that were found, one after the other as they were found."""
    revisions = Table.metadata.tables["revisions"]
    shown = revisions.alias("shown")
    keys: list[ColumnElement[Any]] = [found.c[name] for name, _ in sorted_by.named()]
    columns = [shown.c[column.key] for column in COLUMNS]
    if what is What.ADAPTERS:
        own = revisions.alias("own")
        keys.append(select(func.count()).where(own.c.adapter_name == shown.c.adapter_name).scalar_subquery())
    joined = select(*columns, *keys).join_from(found, shown, shown.c.id == found.c.id)
    return joined.order_by(*sorted_by.by(of=found))


def _conditions(asked: Asked, rest: tuple[Node, ...], *, is_sqlite: bool) -> Iterator[ColumnElement[bool]]:
    searcher = Searcher(is_sqlite=is_sqlite)
    if asked.what is What.REVISIONS:
        hidden = () if _asks_for_yanked(asked.where) else (_VISIBLE,)
        yield searcher.condition(All((*rest, *hidden)))
    elif asked.what is What.OF_ADAPTER:
        yield RevisionRow.adapter_name == asked.exact
    else:
        yield from _newest(searcher.condition(All(rest)), asked.exact)


def _newest(owned: Condition, config_digest: Blank | None) -> Iterator[ColumnElement[bool]]:
    """Yield what holds for the newest revisions that are not hidden."""
    newer = aliased(RevisionRow)
    yield RevisionRow.yanked_at.is_(None)
    yield ~exists().where(
        newer.adapter_id == RevisionRow.adapter_id, newer.number > RevisionRow.number, newer.yanked_at.is_(None)
    )
    yield owned
    if config_digest is not None:
        bases: Select[int] = select(BaseModelRow.id).where(BaseModelRow.config_digest == config_digest)
        yield RevisionRow.base_model_id.in_(bases)


def _driven(driver: Source, *, is_walked: bool, is_direct: bool) -> Iterator[ColumnElement[bool]]:
    """Yield what holds of the revisions that a page begins with.

    Args:
        driver: The term that is looked up first.
        is_walked: Whether its table is read in the order of the page.
        is_direct: See ``_linked``.
    """
    if is_walked or driver.is_of_revision:
        yield driver.where
    else:
        yield _linked(driver, is_direct=is_direct)
    if is_walked:
        yield driver.key == driver.link


def _linked(driver: Source, *, is_direct: bool) -> ColumnElement[bool]:
    """Return what holds of the revisions of what is looked up.

    An index answers a list of keys in its own order; PostgreSQL sorts the revisions of a subquery first.
    """
    if is_direct:
        found: ColumnElement[bool] = driver.link.in_(driver.keys())
    else:
        found = driver.link == any_(func.array(driver.keys().scalar_subquery()))
    return found


def _asks_for_words(node: Node) -> bool:
    """Tell whether words are asked for: a plan for common ones is dear for rare ones, and the other way round."""
    return any(isinstance(leaf, Words) for leaf in leaves(node))


def _asks_for_yanked(node: Node) -> bool:
    """Tell whether a query says itself what becomes of hidden revisions."""
    return any(isinstance(leaf, Term) and leaf.field == "yanked" for leaf in leaves(node))
