"""From rows to records: what a page shows, read for all of its rows together by a fixed number of statements."""

from __future__ import annotations

import datetime
import functools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from ual_registry.registry.moments import utc
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    EvaluationRow,
    RevisionRow,
    RoleRow,
    Table,
    TagRow,
)
from ual_registry.registry.views import Measurement, RevisionRecord, RoleSummary

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
            RevisionRow.artifact_id,
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
_TARGET = _plain(RoleRow.stack, RoleRow.role, RoleRow.rank, RoleRow.entry_count, RoleRow.layer_min, RoleRow.layer_max)


def _targets_statement(*, is_sqlite: bool) -> Select[Any]:
    """Return a select of the entries of each artifact in short, as one JSON text: most share theirs with others."""
    if is_sqlite:
        listed: ColumnElement[Any] = func.json_group_array(func.json_array(*_TARGET))
    else:
        listed = cast(func.json_agg(func.json_build_array(*_TARGET)), Text)
    (key,) = _plain(RoleRow.artifact_id)
    return select(key, listed).group_by(key)


_MEASURED = _grouping(
    EvaluationRow.artifact_id,
    EvaluationRow.metric,
    EvaluationRow.value,
    EvaluationRow.low,
    EvaluationRow.high,
    EvaluationRow.sample_count,
    EvaluationRow.arm,
    by=[EvaluationRow.position],
)


@dataclass(frozen=True, slots=True)
class _Statements:
    """The statements of a page as the driver takes them; to make them anew costs more than to answer them."""

    rows: str
    aliases: str
    tags: str
    targets: str
    measured: str


def _among(column: Column[Any], *, is_sqlite: bool) -> ColumnElement[bool]:
    """Compare with many row numbers by one bound value, so that the statement is the same for any number of them."""
    if is_sqlite:
        listed = func.json_each(bindparam(_KEYS, type_=String)).table_valued("value")
        return column.in_(select(listed.c.value))
    return column == any_(bindparam(_KEYS, type_=postgresql.ARRAY(Integer)))


def _statements(*, is_sqlite: bool) -> _Statements:
    dialect = pysqlite.dialect() if is_sqlite else psycopg.dialect()  # type: ignore[no-untyped-call]

    def compiled(statement: Select[Any]) -> str:
        key = next(iter(statement.selected_columns))
        assert isinstance(key, Column)  # as every select here begins
        return str(statement.where(_among(key, is_sqlite=is_sqlite)).compile(dialect=dialect))

    return _Statements(*map(compiled, (_ROWS, _ALIASES, _TAGS, _targets_statement(is_sqlite=is_sqlite), _MEASURED)))


_STATEMENTS = {is_sqlite: _statements(is_sqlite=is_sqlite) for is_sqlite in (True, False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    """The entries of an artifact in short."""

    summaries: tuple[RoleSummary, ...] = ()
    ranks: tuple[int, ...] = ()
    roles: tuple[str, ...] = ()


_NO_TARGETS = _Targets()


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
    artifact_ids = sorted({row[1] for row in rows.values()})
    aliases = _grouped(connection, ask.aliases, revision_ids)
    tags = _grouped(connection, ask.tags, revision_ids)
    targets = {key: _targets(text) for key, text in _read(connection, ask.targets, artifact_ids)}
    measured = _grouped(connection, ask.measured, artifact_ids)
    return [
        _record(row, aliases[row[0]], tags[row[0]], targets.get(row[1], _NO_TARGETS), measured[row[1]])
        for row in (rows[key] for key in revision_ids if key in rows)
    ]


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


def _record(
    row: Any, aliases: Sequence[Any], tags: Sequence[Any], targets: _Targets, measured: Sequence[Any]
) -> RevisionRecord:
    _, _, name, number, created_at, yanked_at, reason, owner, *known, base, architecture = row
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, recovered_gain = known
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
        evaluations=tuple(
            [
                Measurement(metric=metric, value=value, low=low, high=high, sample_count=count, arm=arm)
                for _, metric, value, low, high, count, arm in measured
            ]
        ),
        yank_reason=None if yanked_at is None else reason or "",
    )


@functools.lru_cache(maxsize=1024)
def _targets(text: str) -> _Targets:
    rows = sorted(json.loads(text), key=lambda row: row[:3])
    return _Targets(
        summaries=tuple(
            RoleSummary(
                stack=stack or None, role=role, rank=rank, entry_count=count, first_layer=first, last_layer=last
            )
            for stack, role, rank, count, first, last in rows
        ),
        ranks=tuple(sorted({row[2] for row in rows})),
        roles=tuple(sorted({row[1] for row in rows})),
    )


def _utc(moment: datetime.datetime | str) -> datetime.datetime:
    """SQLite keeps a text without a time zone; ours is always UTC."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return utc(moment)
