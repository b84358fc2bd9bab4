"""Lists and searches, page by page; the number of statements of a page does not depend on the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, any_, exists, func, select
from sqlalchemy.orm import Session, aliased

from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.conditions import among, bound_list
from ual_registry.registry.details import MAX_PAGE, records
from ual_registry.registry.order import read_cursor, sorting, write_cursor
from ual_registry.registry.plan import make_plan
from ual_registry.registry.queries import find_digest, unknown_adapter
from ual_registry.registry.reference import Reference
from ual_registry.registry.search import Searcher
from ual_registry.registry.sources import Source
from ual_registry.registry.tables import ArtifactRow, BaseModelRow, RevisionRow, Table
from ual_registry.registry.tree import All, Any_, Node, Not, Order, Query, Term, mistake_at
from ual_registry.registry.values import Text
from ual_registry.registry.views import AdapterRecord, Page, RevisionRecord

__all__ = ["check_limit", "list_page", "revisions_page", "search_page"]

_VISIBLE = Term("yanked", (Text("false"),))


def check_limit(limit: int) -> int:
    """Return the size of a page, if there may be one of it.

    Raises:
        RegistryError: It is not between 1 and 10,000.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise RegistryError(
            f"limit {limit}: expected 1 to {MAX_PAGE:,}",
            code="limit",
            context={"limit": limit},
            hint="the cursor of a page leads to the next",
        )
    return limit


def search_page(
    session: Session, query: Query, *, limit: int, after: str | None = None, text: str = ""
) -> Page[RevisionRecord]:
    """Return the revisions that a query holds for.

    Args:
        session: An open session.
        query: The parsed query.
        limit: How many at most.
        after: The cursor of the page before.
        text: The query as it was written, for the message about a reference that names nothing.

    Raises:
        QueryError: A reference of the query names nothing here.
        RegistryError: The cursor is none of this query.
    """
    hidden = () if _asks_for_yanked(query.where) else (_VISIBLE,)
    searcher = Searcher(is_sqlite=_is_sqlite(session), digests=_digests(session, query.where, text))
    plan = make_plan(session, searcher, query.where, limit=limit, walked=sorting(query.order))
    rest = searcher.condition(All((*plan.rest, *hidden)))
    finder = _Finder(session, query.order, question=query.where, conditions=[rest], driver=plan.driver)
    return finder.page(limit, after)


def list_page(
    session: Session,
    *,
    owner: str | None,
    order: Order,
    limit: int,
    after: str | None = None,
    config_digest: str | None = None,
) -> Page[AdapterRecord]:
    """Return adapters with their newest revision that is not hidden; one without such a revision is left out.

    Args:
        session: An open session.
        owner: Whose adapters; ``None`` for everybody's.
        order: In which order.
        limit: How many at most.
        after: The cursor of the page before.
        config_digest: Of the base model that the newest revision is for; ``None`` for all and for routers.

    Raises:
        RegistryError: The cursor is none of this list.
    """
    newer = aliased(RevisionRow)
    is_newest = ~exists().where(
        newer.adapter_id == RevisionRow.adapter_id, newer.number > RevisionRow.number, newer.yanked_at.is_(None)
    )
    conditions = [RevisionRow.yanked_at.is_(None), is_newest]
    driver = None
    if owner is not None:
        searcher = Searcher(is_sqlite=_is_sqlite(session))
        plan = make_plan(session, searcher, Term("owner", (Text(owner),)), limit=limit)
        driver = plan.driver
        conditions.append(searcher.condition(All(plan.rest)))
    if config_digest is not None:
        conditions.append(RevisionRow.base_model_id.in_(_bases(config_digest)))
    question = ("list", owner) if config_digest is None else ("list", owner, config_digest)
    finder = _Finder(session, order, question=question, conditions=conditions, driver=driver)
    found = finder.page(limit, after)
    counts = _revision_counts(session, [record.name for record in found])
    items = tuple(AdapterRecord(name=item.name, revision_count=counts[item.name], newest=item) for item in found)
    return Page(items=items, next=found.next)


def _bases(config_digest: str) -> Select[int]:
    return select(BaseModelRow.id).where(BaseModelRow.config_digest == config_digest)


def revisions_page(session: Session, name: str, *, limit: int, after: str | None = None) -> Page[RevisionRecord]:
    """Return the revisions of an adapter, hidden ones too, newest first.

    Args:
        session: An open session.
        name: The adapter.
        limit: How many at most.
        after: The cursor of the page before.

    Raises:
        RegistryNotFoundError: There is no such adapter.
        RegistryError: The cursor is none of this list.
    """
    conditions = [RevisionRow.adapter_name == name]
    found = _Finder(session, Order(), question=("revisions", name), conditions=conditions).page(limit, after)
    if not found.items and after is None:
        raise unknown_adapter(session, name)
    return found


class _Finder:
    """Reads a page: the row numbers in order first, then what belongs to them.

    Args:
        session: An open session.
        order: In which order.
        question: What was asked, for the cursor.
        conditions: What holds for a revision.
        driver: What to look up first; ``None`` to walk along the order.
    """

    def __init__(
        self,
        session: Session,
        order: Order,
        *,
        question: object,
        conditions: Sequence[ColumnElement[bool]],
        driver: Source | None = None,
    ) -> None:
        self._session = session
        self._order = order
        self._sorting = sorting(order)
        self._question = question
        self._conditions = conditions
        self._driver = driver

    def page(self, limit: int, after: str | None) -> Page[RevisionRecord]:
        """Return at most ``limit`` records behind a cursor."""
        statement = self._statement().limit(limit + 1)
        if after is not None:
            statement = statement.where(self._sorting.after(read_cursor(after, self._order, self._question)))
        rows = self._session.connection().execute(statement).all()
        more = write_cursor(self._order, self._question, rows[limit - 1][1:]) if len(rows) > limit else None
        found = records(self._session, [row[0] for row in rows[:limit]])
        return Page(items=tuple(found), next=more)

    def _statement(self) -> Select[Any]:
        columns = [column for column, _ in self._sorting.columns]
        statement = select(RevisionRow.id, *columns).where(*self._conditions)
        if self._sorting.is_about_artifacts:
            statement = statement.join(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
        if self._driver is not None:
            driver = self._driver
            statement = statement.where(driver.where if driver.is_of_revision else self._linked(driver))
        return statement.order_by(*self._sorting.by(is_indexed=self._is_in_order()))

    def _linked(self, driver: Source) -> ColumnElement[bool]:
        """Return what holds of the revisions of what is looked up.

        An index answers a list of keys in its own order; PostgreSQL sorts the revisions of a subquery first.
        """
        if _is_sqlite(self._session) or not self._is_in_order():
            found: ColumnElement[bool] = driver.link.in_(driver.keys())
        else:
            found = driver.link == any_(func.array(driver.keys().scalar_subquery()))
        return found

    def _is_in_order(self) -> bool:
        """Tell whether rows are found in order, so that the rest need not be read once the page is full."""
        first, _ = self._sorting.columns[0]
        return self._driver is None or self._driver.link is first


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _asks_for_yanked(node: Node) -> bool:
    """Tell whether a query says itself what becomes of hidden revisions."""
    return any(term.field == "yanked" for term in _terms(node))


def _terms(node: Node) -> Iterator[Term]:
    if isinstance(node, Term):
        yield node
    elif isinstance(node, Not):
        yield from _terms(node.part)
    elif isinstance(node, (All, Any_)):
        for part in node.parts:
            yield from _terms(part)


def _digests(session: Session, where: Node, text: str) -> dict[str, str]:
    """Return the digest of every reference; that of a digest is itself, whether it is here or not."""
    found: dict[str, str] = {}
    for term in _terms(where):
        for value in term.values if term.field == "derived-from" else ():
            assert isinstance(value, Text)  # as the parser made it
            reference = Reference.parse(value.text)
            try:
                found[value.text] = str(reference.digest or find_digest(session, reference))
            except RegistryNotFoundError as error:
                raise mistake_at(text, term.column, error.message) from error
    return found


def _revision_counts(session: Session, names: Sequence[str]) -> dict[str, int]:
    is_sqlite = _is_sqlite(session)
    keys = bound_list(names, is_sqlite=is_sqlite)
    rows = session.connection().execute(_COUNTS[is_sqlite], {"keys": keys}).all()
    return {row[0]: row[1] for row in rows}


def _counts_statement(*, is_sqlite: bool) -> Select[Any]:
    name = Table.metadata.tables["revisions"].c.adapter_name
    return select(name, func.count()).where(among(name, "keys", is_sqlite=is_sqlite)).group_by(name)


_COUNTS = {is_sqlite: _counts_statement(is_sqlite=is_sqlite) for is_sqlite in (True, False)}
