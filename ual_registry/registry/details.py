"""From rows to records: what a page shows, read for all of its rows together by a fixed number of statements."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Select,
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
"""The one value of every statement here: all row numbers together, as their engine takes them."""


def _column(attribute: InstrumentedAttribute[Any]) -> Column[Any]:
    """Return the column behind an attribute: rows of plain columns cost half of what rows of attributes do."""
    found: Column[Any] = attribute.property.columns[0]
    return found


def _plain(*attributes: InstrumentedAttribute[Any]) -> tuple[Column[Any], ...]:
    return tuple(map(_column, attributes))


_REVISIONS, _ADAPTERS, _ARTIFACTS, _BASES = (
    Table.metadata.tables[name] for name in ("revisions", "adapters", "artifacts", "base_models")
)
_ROWS = (
    select(
        *_plain(
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
    )
    .select_from(_REVISIONS)
    .join(_ADAPTERS, _ADAPTERS.c.id == _REVISIONS.c.adapter_id)
    .join(_ARTIFACTS, _ARTIFACTS.c.id == _REVISIONS.c.artifact_id)
    .join(_BASES, _BASES.c.id == _ARTIFACTS.c.base_model_id, isouter=True)
)


def _grouping(*attributes: InstrumentedAttribute[Any], by: Sequence[InstrumentedAttribute[Any]]) -> Select[Any]:
    """Return a select of rows by the first of their columns."""
    key, *rest = _plain(*attributes)
    return select(key, *rest).order_by(key, *_plain(*by))


_ALIASES = _grouping(AliasRow.revision_id, AliasRow.name, by=[AliasRow.name])
_TAGS = _grouping(TagRow.revision_id, TagRow.key, TagRow.value, by=[TagRow.key])


@dataclass(frozen=True, slots=True)
class _Statements:
    """The statements of a page as the driver takes them; to make them anew costs more than to answer them."""

    rows: str
    aliases: str
    tags: str


def _statements(*, is_sqlite: bool) -> _Statements:
    dialect = pysqlite.dialect() if is_sqlite else psycopg.dialect()  # type: ignore[no-untyped-call]

    def compiled(statement: Select[Any]) -> str:
        key = next(iter(statement.selected_columns))
        assert isinstance(key, Column)  # as every select here begins
        return str(statement.where(among(key, _KEYS, is_sqlite=is_sqlite)).compile(dialect=dialect))

    return _Statements(*map(compiled, (_ROWS, _ALIASES, _TAGS)))


_STATEMENTS = {is_sqlite: _statements(is_sqlite=is_sqlite) for is_sqlite in (True, False)}


def records(session: Session, revision_ids: Sequence[int]) -> list[RevisionRecord]:
    """Return the records of revisions, in the order of their row numbers as given.

    Args:
        session: An open session.
        revision_ids: At most ``MAX_PAGE`` row numbers.
    """
    if not revision_ids:
        return []
    connection = session.connection()
    ask = _STATEMENTS[connection.dialect.name == "sqlite"]
    rows = {row[0]: row for row in _read(connection, ask.rows, revision_ids)}
    aliases = _grouped(connection, ask.aliases, revision_ids)
    tags = _grouped(connection, ask.tags, revision_ids)
    found = (rows[key] for key in revision_ids if key in rows)
    return [_record(row, aliases.get(row[0], ()), tags.get(row[0], ())) for row in found]


def _read(connection: Connection, statement: str, keys: Sequence[int]) -> Sequence[Any]:
    """Ask the driver itself: rows as plain tuples cost half."""
    is_sqlite = connection.dialect.name == "sqlite"
    bound: Any = (json.dumps(keys),) if is_sqlite else {_KEYS: list(keys)}
    result = connection.exec_driver_sql(statement, bound)
    rows: Sequence[Any] = result.cursor.fetchall() if result.cursor is not None else ()
    result.close()
    return rows


def _grouped(connection: Connection, statement: str, keys: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in _read(connection, statement, keys):
        found[row[0]].append(row)
    return found


def _record(row: Any, aliases: Sequence[Any], tags: Sequence[Any]) -> RevisionRecord:
    _, name, number, created_at, yanked_at, reason, owner, *known, base, architecture = row
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, recovered_gain, *texts = known
    targets = NO_TARGETS if texts[0] is None else read_targets(texts[0])
    return RevisionRecord(
        name=name,
        number=number,
        digest=digest,
        created_at=_utc(created_at),
        owner=owner,
        aliases=tuple([alias for _, alias in aliases]),
        tags={key: value for _, key, value in tags},
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


def _utc(moment: datetime.datetime | str) -> datetime.datetime:
    """SQLite keeps a text without a time zone; ours is always UTC."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return utc(moment)
