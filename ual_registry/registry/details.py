"""From rows to records: what a page shows, read for all of its rows together by one statement."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ScalarSelect,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from ual_registry.registry.conditions import among
from ual_registry.registry.moments import utc
from ual_registry.registry.summaries import NO_TARGETS, read_measurements, read_targets
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    RevisionRow,
    Table,
    TagRow,
)
from ual_registry.registry.views import RevisionRecord

__all__ = ["MAX_PAGE", "records"]

MAX_PAGE = 10_000
"""Rows of a page."""

_KEYS = "keys"
"""The one value of the statement: all row numbers together, as their engine takes them."""


def _column(attribute: InstrumentedAttribute[Any]) -> Column[Any]:
    """Return the column behind an attribute: rows of plain columns cost half of what rows of attributes do."""
    found: Column[Any] = attribute.property.columns[0]
    return found


def _plain(*attributes: InstrumentedAttribute[Any]) -> tuple[Column[Any], ...]:
    return tuple(map(_column, attributes))


_REVISIONS, _ADAPTERS, _ARTIFACTS, _BASES = (
    Table.metadata.tables[name] for name in ("revisions", "adapters", "artifacts", "base_models")
)
_SHOWN = _plain(
    RevisionRow.id,
    RevisionRow.adapter_name,
    RevisionRow.number,
    RevisionRow.created_at,
    RevisionRow.yanked_at,
    RevisionRow.yank_reason,
    AdapterRow.owner,
    ArtifactRow.digest,
    ArtifactRow.kind,
    ArtifactRow.title,
    ArtifactRow.method,
    ArtifactRow.domain,
    ArtifactRow.license,
    ArtifactRow.parameter_count,
    ArtifactRow.size_bytes,
    ArtifactRow.recovered_gain,
    ArtifactRow.targets,
    ArtifactRow.measurements,
    BaseModelRow.label,
    BaseModelRow.architecture,
)


def _labels(*attributes: InstrumentedAttribute[Any], function: str) -> ScalarSelect[Any]:
    """Return the aliases or tags of a revision as one JSON text, in order of the first column."""
    key, *rest = _plain(*attributes)
    owner = key.table.c.revision_id
    found = select(key, *rest).where(owner == _REVISIONS.c.id).order_by(key).correlate(_REVISIONS).subquery()
    return select(getattr(func, function)(*found.c)).scalar_subquery()


def _statement(*, is_sqlite: bool) -> str:
    """Return the statement of a page as the driver takes it; to make it anew costs more than to answer it."""
    array, pairs = ("json_group_array", "json_group_object") if is_sqlite else ("json_agg", "json_object_agg")
    aliases = _labels(AliasRow.name, function=array)
    tags = _labels(TagRow.key, TagRow.value, function=pairs)
    statement = (
        select(*_SHOWN, aliases, tags)
        .select_from(_REVISIONS)
        .join(_ADAPTERS, _ADAPTERS.c.id == _REVISIONS.c.adapter_id)
        .join(_ARTIFACTS, _ARTIFACTS.c.id == _REVISIONS.c.artifact_id)
        .join(_BASES, _BASES.c.id == _ARTIFACTS.c.base_model_id, isouter=True)
        .where(among(_REVISIONS.c.id, _KEYS, is_sqlite=is_sqlite))
    )
    dialect = pysqlite.dialect() if is_sqlite else psycopg.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect))


_STATEMENTS = {is_sqlite: _statement(is_sqlite=is_sqlite) for is_sqlite in (True, False)}


def records(session: Session, revision_ids: Sequence[int]) -> list[RevisionRecord]:
    """Return the records of revisions, in the order of their row numbers as given.

    Args:
        session: An open session.
        revision_ids: At most ``MAX_PAGE`` row numbers.
    """
    if not revision_ids:
        return []
    rows = {row[0]: row for row in _read(session.connection(), revision_ids)}
    return [_record(rows[key]) for key in revision_ids if key in rows]


def _read(connection: Connection, keys: Sequence[int]) -> Sequence[Any]:
    """Ask the driver itself: rows as plain tuples cost half."""
    is_sqlite = connection.dialect.name == "sqlite"
    bound: Any = (json.dumps(keys),) if is_sqlite else {_KEYS: _array(keys)}
    result = connection.exec_driver_sql(_STATEMENTS[is_sqlite], bound)
    rows: Sequence[Any] = result.cursor.fetchall() if result.cursor is not None else ()
    result.close()
    return rows


def _array(numbers: Sequence[int]) -> str:
    """Write numbers as PostgreSQL reads an array; psycopg looks at every member of a list first."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _record(row: Any) -> RevisionRecord:
    _, name, number, created_at, yanked_at, reason, owner, *known, base, architecture, aliases, tags = row
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, recovered_gain, *texts = known
    targets = NO_TARGETS if texts[0] is None else read_targets(texts[0])
    return RevisionRecord(
        name=name,
        number=number,
        digest=digest,
        created_at=_utc(created_at),
        owner=owner,
        aliases=tuple(_parsed(aliases) or ()),
        tags=_parsed(tags) or {},
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
        evaluations=() if texts[1] is None else read_measurements(texts[1]),
        yank_reason=None if yanked_at is None else reason or "",
    )


def _parsed(found: Any) -> Any:
    """SQLite gives the text of a JSON value; the driver of PostgreSQL reads it itself."""
    return json.loads(found) if isinstance(found, str) else found


def _utc(moment: datetime.datetime | str) -> datetime.datetime:
    """SQLite keeps a text without a time zone; ours is always UTC."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return utc(moment)
