"""From rows to records: what a page shows, read for all of its rows together by one statement."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Subquery, Text, cast, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from ual_registry.registry.conditions import among
from ual_registry.registry.moments import utc
from ual_registry.registry.statements import Statement, is_sqlite, prepared
from ual_registry.registry.summaries import NO_TARGETS, measurements_of, read_targets
from ual_registry.registry.tables import Table
from ual_registry.registry.views import RevisionRecord

__all__ = ["MAX_PAGE", "records"]

MAX_PAGE = 10_000
"""Rows of a page."""

_KEYS = "keys"
"""The one value of the statement: all row numbers together, as their engine takes them."""


_REVISIONS, _ADAPTERS, _ALIASES, _TAGS = (
    Table.metadata.tables[name] for name in ("revisions", "adapters", "aliases", "tags")
)
_COLUMNS = (
    _REVISIONS.c.id,
    _REVISIONS.c.adapter_name,
    _REVISIONS.c.number,
    _REVISIONS.c.created_at,
    _REVISIONS.c.yanked_at,
    _REVISIONS.c.yank_reason,
    select(_ADAPTERS.c.owner).where(_ADAPTERS.c.id == _REVISIONS.c.adapter_id).scalar_subquery(),
    _REVISIONS.c.recovered_gain,
    _REVISIONS.c.targets,
    _REVISIONS.c.shown,
)


_TAG = (_TAGS.c.key, _TAGS.c.value)


def _sqlite_statement() -> Select[Any]:
    """Ask for the aliases and tags of one revision after the other, which SQLite does without any cost of its own."""
    labels = []
    for function, columns in ((func.json_group_array, (_ALIASES.c.name,)), (func.json_group_object, _TAG)):
        owner = columns[0].table.c.revision_id == _REVISIONS.c.id
        found = select(*columns).where(owner).order_by(columns[0]).correlate(_REVISIONS).subquery()
        labels.append(select(function(*found.c)).scalar_subquery())
    return select(*_COLUMNS, *labels).where(among(_REVISIONS.c.id, _KEYS, is_sqlite=True))


def _postgresql_statement() -> Select[Any]:
    """Ask for the aliases and tags of all revisions at once: PostgreSQL takes longer to begin than to go on."""
    names = func.json_agg(aggregate_order_by(_ALIASES.c.name, _ALIASES.c.name))
    pairs = func.json_object_agg(_TAGS.c.key, aggregate_order_by(_TAGS.c.value, _TAGS.c.key))
    aliases, tags = (_labels(found, table) for found, table in ((names, _ALIASES), (pairs, _TAGS)))
    whole = _REVISIONS.outerjoin(aliases, aliases.c.revision_id == _REVISIONS.c.id)
    whole = whole.outerjoin(tags, tags.c.revision_id == _REVISIONS.c.id)
    wanted = among(_REVISIONS.c.id, _KEYS, is_sqlite=False)
    return select(*_COLUMNS, aliases.c.found, tags.c.found).select_from(whole).where(wanted)


def _labels(found: ColumnElement[Any], table: FromClause) -> Subquery:
    """Return the labels of each revision as one JSON text, which is read with all else of a page."""
    owner = table.c.revision_id
    statement = select(owner, cast(found, Text).label("found")).where(among(owner, _KEYS, is_sqlite=False))
    return statement.group_by(owner).subquery()


@functools.cache
def _statement(*, is_sqlite: bool) -> Statement:
    return prepared(_sqlite_statement() if is_sqlite else _postgresql_statement(), is_sqlite=is_sqlite)


def records(connection: Connection, revision_ids: Sequence[int]) -> list[RevisionRecord]:
    """Return the records of revisions, in the order of their row numbers as given.

    Args:
        connection: An open connection.
        revision_ids: At most ``MAX_PAGE`` row numbers.
    """
    if not revision_ids:
        return []
    on_sqlite = is_sqlite(connection)
    keys = json.dumps(revision_ids) if on_sqlite else _array(revision_ids)
    rows = _statement(is_sqlite=on_sqlite).rows(connection, **{_KEYS: keys})
    texts = [f"[{row[9]},{row[10] or '[]'},{row[11] or '{}'}]" for row in rows]
    found = {row[0]: _record(row, *parts) for row, parts in zip(rows, json.loads(f"[{','.join(texts)}]"), strict=True)}
    return [found[key] for key in revision_ids if key in found]


def _array(numbers: Sequence[int]) -> str:
    """Write numbers as PostgreSQL reads an array; psycopg looks at every member of a list first."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _record(row: Any, shown: list[Any], aliases: list[str], tags: dict[str, str]) -> RevisionRecord:
    _, name, number, created_at, yanked_at, reason, owner, recovered_gain, texts, *_ = row
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, measured, base, architecture = shown
    targets = NO_TARGETS if texts is None else read_targets(texts)
    return RevisionRecord(
        name=name,
        number=number,
        digest=digest,
        created_at=utc(created_at),
        owner=owner,
        aliases=tuple(aliases),
        tags=tags,
        kind=kind,
        title=title,
        base=base,
        architecture=architecture,
        method=method,
        domain=domain,
        license=license_,
        ranks=targets.ranks,
        roles=targets.roles,
        targets=targets.summaries,
        parameter_count=parameter_count,
        size_bytes=size_bytes,
        recovered_gain=recovered_gain,
        evaluations=() if measured is None else measurements_of(measured),
        yank_reason=None if yanked_at is None else reason or "",
    )
