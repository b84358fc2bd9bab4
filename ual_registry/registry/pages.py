"""Lists and searches, page by page; the number of statements of a page does not depend on the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.details import COLUMNS, MAX_PAGE, records
from ual_registry.registry.finding import KEY_NAMES, Asked, What, key_types, page_statement
from ual_registry.registry.forms import form_of
from ual_registry.registry.making import maker
from ual_registry.registry.order import read_cursor, write_cursor
from ual_registry.registry.plan import choose_start
from ual_registry.registry.queries import find_digest, unknown_adapter
from ual_registry.registry.reference import Reference
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tree import All, Node, Order, Query, Term, leaves, mistake_at
from ual_registry.registry.values import Text
from ual_registry.registry.views import AdapterRecord, Page, RevisionRecord

__all__ = ["check_limit", "list_page", "revisions_page", "search_page"]


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
    connection: Connection, query: Query, *, limit: int, after: str | None = None, text: str = ""
) -> Page[RevisionRecord]:
    """Return the revisions that a query holds for.

    Args:
        connection: An open connection.
        query: The parsed query.
        limit: How many at most.
        after: The cursor of the page before.
        text: The query as it was written, for the message about a reference that names nothing.

    Raises:
        QueryError: A reference of the query names nothing here.
        RegistryError: The cursor is none of this query.
    """
    form = form_of(query.where, _digests(connection, query.where, text))
    start = choose_start(connection, form.where, form.values, limit=limit, walked=query.order)
    asked = Asked(what=What.REVISIONS, where=form.where, order=query.order, start=start)
    return _page(connection, asked, form.values, question=query.where, limit=limit, after=after)[0]


def list_page(
    connection: Connection,
    *,
    owner: str | None,
    order: Order,
    limit: int,
    after: str | None = None,
    config_digest: str | None = None,
) -> Page[AdapterRecord]:
    """Return adapters with their newest revision that is not hidden; one without such a revision is left out.

    Args:
        connection: An open connection.
        owner: Whose adapters; ``None`` for everybody's.
        order: In which order.
        limit: How many at most.
        after: The cursor of the page before.
        config_digest: Of the base model that the newest revision is for; ``None`` for all and for routers.

    Raises:
        RegistryError: The cursor is none of this list.
    """
    owned: Node = All(()) if owner is None else Term("owner", (Text(owner),))
    form, base = form_of(owned, {}), None
    start = choose_start(connection, form.where, form.values, limit=limit)
    if config_digest is not None:
        form, base = form.blank(config_digest)
    asked = Asked(what=What.ADAPTERS, where=form.where, order=order, start=start, exact=base)
    question = ("list", owner) if config_digest is None else ("list", owner, config_digest)
    found, rows = _page(connection, asked, form.values, question=question, limit=limit, after=after)
    items = [_adapter(item.name, row[-1], item) for item, row in zip(found.items, rows, strict=True)]
    return Page(items=tuple(items), next=found.next)


def revisions_page(connection: Connection, name: str, *, limit: int, after: str | None = None) -> Page[RevisionRecord]:
    """Return the revisions of an adapter, hidden ones too, newest first.

    Args:
        connection: An open connection.
        name: The adapter.
        limit: How many at most.
        after: The cursor of the page before.

    Raises:
        RegistryNotFoundError: There is no such adapter.
        RegistryError: The cursor is none of this list.
    """
    form, own = form_of(All(()), {}).blank(name)
    asked = Asked(what=What.OF_ADAPTER, where=form.where, order=Order(), exact=own)
    found, _ = _page(connection, asked, form.values, question=("revisions", name), limit=limit, after=after)
    if not found.items and after is None:
        with Session(connection) as session:
            raise unknown_adapter(session, name)
    return found


def _page(
    connection: Connection, asked: Asked, values: Sequence[Any], *, question: object, limit: int, after: str | None
) -> tuple[Page[RevisionRecord], Sequence[Any]]:
    """Read the rows of a page, and one more, which tells whether there is a next.

    What is returned is the page, and its rows.

    Args:
        connection: An open connection.
        asked: What is asked.
        values: What its blanks stand for.
        question: What was asked, for the cursor.
        limit: How many at most.
        after: The cursor of the page before.
    """
    key = None if after is None else read_cursor(after, asked.order, question)
    size = {"page_size": limit + 1}
    asked_of, bound = ({}, size) if is_sqlite(connection) else (size, {})
    statement = page_statement(asked, is_sqlite=is_sqlite(connection), key_types=key_types(key), **asked_of)
    behind = {} if key is None else dict(zip(KEY_NAMES, key, strict=True))
    rows = statement.rows(connection, values, **bound, **behind)
    more = write_cursor(asked.order, question, rows[limit - 1][len(COLUMNS) :][:2]) if len(rows) > limit else None
    shown = rows[:limit]
    return Page(items=tuple(records(shown)), next=more), shown


_adapter = maker(AdapterRecord)


def _digests(connection: Connection, where: Node, text: str) -> dict[str, str]:
    """Return the digest of every reference; that of a digest is itself, whether it is here or not."""
    found: dict[str, str] = {}
    derived = (leaf for leaf in leaves(where) if isinstance(leaf, Term) and leaf.field == "derived-from")
    for term in derived:
        for value in term.values:
            assert isinstance(value, Text)  # as the parser made it
            reference = Reference.parse(value.text)
            try:
                found[value.text] = str(reference.digest or find_digest(connection, reference))
            except RegistryNotFoundError as error:
                raise mistake_at(text, term.column, error.message) from error
    return found
