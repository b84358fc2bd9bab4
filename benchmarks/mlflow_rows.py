"""The revisions of one of our registries as rows of MLflow's tables, as MLflow itself would have written them.

An adapter becomes a registered model, a revision a model version, and what our manifest says becomes its tags. MLflow
has no place for entries, lineage and measurements, so it is spared them. Hidden revisions are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, insert, select, table, text
from sqlalchemy import column as sql_column

from benchmarks.mlflow_peer import MlflowPeer
from ual_registry.registry.session import Database
from ual_registry.registry.tables import AliasRow, ArtifactRow, BaseModelRow, RevisionRow, TagRow

__all__ = ["TABLES", "Version", "alike", "engine_of", "fill_mlflow", "source_of"]

Row = dict[str, Any]

TABLES = {
    "registered_models": ("name", "creation_time", "last_updated_time", "description", "workspace"),
    "model_versions": (
        *("name", "version", "creation_time", "last_updated_time", "description", "user_id", "current_stage"),
        *("source", "run_id", "status", "status_message", "run_link", "storage_location", "workspace"),
    ),
    "model_version_tags": ("key", "value", "name", "version", "workspace"),
    "registered_model_tags": ("key", "value", "name", "workspace"),
    "registered_model_aliases": ("alias", "version", "name", "workspace"),
}
"""The columns of each table, those that others refer to first."""

_TIMES = ("creation_time", "last_updated_time")
_BATCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A revision as MLflow sees it.

    Attributes:
        name: The model.
        number: The version.
        at_ms: When it was made, in milliseconds since 1970.
        source: Where its bytes are.
        attributes: What the manifest says.
        labels: What people said.
        aliases: Which aliases point to it.
        is_newest: Whether the model has no later one; its attributes are then those of the model, too.
    """

    name: str
    number: int
    at_ms: int
    source: str
    attributes: dict[str, str]
    labels: dict[str, str]
    aliases: tuple[str, ...]
    is_newest: bool

    @property
    def tags(self) -> dict[str, str]:
        """Every tag."""
        return self.attributes | self.labels


def source_of(digest: str) -> str:
    """Return where the bytes with a digest are, as MLflow is told."""
    return "file:///blobs/" + digest.replace(":", "/")


def engine_of(url: str) -> Engine:
    """Return an engine for a database of MLflow's; it takes the driver that we have."""
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))


def _versions(connection: Connection) -> Iterator[Version]:
    """Yield the revisions in the order of their making."""
    pairs = text("SELECT adapter_id, max(number) FROM revisions WHERE yanked_at IS NULL GROUP BY adapter_id")
    newest: dict[int, int] = dict(connection.execute(pairs).tuples().all())
    last = connection.scalar(text("SELECT max(id) FROM revisions")) or 0
    for first in range(1, last + 1, _BATCH):
        span = (first, first + _BATCH - 1)
        labels = _grouped(connection, TagRow.revision_id, (TagRow.key, TagRow.value), span)
        aliases = _grouped(connection, AliasRow.revision_id, (AliasRow.name,), span)
        statement = (
            select(RevisionRow, ArtifactRow, BaseModelRow.label)
            .join(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
            .join(BaseModelRow, BaseModelRow.id == ArtifactRow.base_model_id, isouter=True)
            .where(RevisionRow.id.between(*span), RevisionRow.yanked_at.is_(None))
            .order_by(RevisionRow.id)
            .with_only_columns(
                *(RevisionRow.id, RevisionRow.adapter_id, RevisionRow.adapter_name, RevisionRow.number),
                *(RevisionRow.created_at, ArtifactRow.digest, BaseModelRow.label, ArtifactRow.domain),
                *(ArtifactRow.rank_max, ArtifactRow.method, ArtifactRow.license),
            )
        )
        for row in connection.execute(statement):
            attributes = {
                "base": row.label,
                "domain": row.domain,
                "rank": None if row.rank_max is None else str(row.rank_max),
                "method": row.method,
                "license": row.license,
            }
            yield Version(
                name=row.adapter_name,
                number=row.number,
                at_ms=int(row.created_at.timestamp() * 1000),
                source=source_of(row.digest),
                attributes={key: value for key, value in attributes.items() if value is not None},
                labels=dict(labels.get(row.id, [])),
                aliases=tuple(name for (name,) in aliases.get(row.id, [])),
                is_newest=newest[row.adapter_id] == row.number,
            )


def _grouped(connection: Connection, key: Any, columns: Sequence[Any], span: tuple[int, int]) -> dict[int, list[Any]]:
    statement = select(key, *columns).where(key.between(*span)).order_by(key)
    rows = connection.execute(statement).tuples()
    return {key: [tuple(row[1:]) for row in group] for key, group in itertools.groupby(rows, key=lambda row: row[0])}


def _rows(versions: Iterator[Version]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of MLflow's tables; a model comes with its newest version, when its times are known."""
    first_at: dict[str, int] = {}
    for version in versions:
        first_at.setdefault(version.name, version.at_ms)
        own = {"name": version.name, "workspace": "default"}
        numbered = {**own, "version": version.number}
        times = {"creation_time": version.at_ms, "last_updated_time": version.at_ms}
        place = {"source": version.source, "storage_location": version.source}
        yield "model_versions", {**numbered, **times, **place, "current_stage": "None", "status": "READY"}
        yield from (("model_version_tags", {**numbered, "key": k, "value": v}) for k, v in version.tags.items())
        yield from (("registered_model_aliases", {**numbered, "alias": alias}) for alias in version.aliases)
        if version.is_newest:
            yield "registered_models", {**own, **times, "creation_time": first_at[version.name]}
            tags = version.attributes.items()
            yield from (("registered_model_tags", {**own, "key": key, "value": value}) for key, value in tags)


def fill_mlflow(ours: Database, url: str) -> None:
    """Write every revision of a registry of ours into MLflow's tables, which must be there and empty."""
    engine = engine_of(url)
    with ours.engine.connect() as source, engine.connect() as target:
        if engine.dialect.name == "postgresql":
            target.execute(text("SET session_replication_role = replica"))
        _write(target, _rows(_versions(source)))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
    engine.dispose()


def _write(connection: Connection, rows: Iterator[tuple[str, Row]]) -> None:
    waiting: dict[str, list[Row]] = {name: [] for name in TABLES}
    for name, row in rows:
        waiting[name].append(row)
        if len(waiting[name]) == _BATCH:
            _insert(connection, name, waiting[name])
    for name, batch in waiting.items():
        _insert(connection, name, batch)
    connection.commit()


def _insert(connection: Connection, name: str, batch: list[Row]) -> None:
    if batch:
        columns = TABLES[name]
        rows = [{key: row.get(key) for key in columns} for row in batch]
        connection.execute(insert(table(name, *map(sql_column, columns))), rows)
        batch.clear()


def alike(ours: Database, peer: MlflowPeer, url: str, *, models: int = 10) -> int:
    """Make a few models over MLflow's own calls, then in bulk, compare every row, and return how many there are.

    Args:
        ours: The registry that the rows are made from.
        peer: An MLflow on an empty database; it is empty again afterwards.
        url: That database.
        models: How many models.

    Raises:
        AssertionError: A row differs in anything but its times.
    """
    chosen = _chosen(ours, models)
    for version in chosen:
        if version.number == 1:
            newest = next(each for each in chosen if each.name == version.name and each.is_newest)
            peer.ask("model", name=version.name, tags=newest.attributes)
        made = peer.ask("version", name=version.name, source=version.source, tags=version.tags)
        assert made.found == [[version.name, version.number]], made.found
        for alias in version.aliases:
            peer.ask("set_alias", name=version.name, alias=alias, number=version.number)
    engine = engine_of(url)
    by_api = _taken(engine)
    with engine.connect() as connection:
        _write(connection, _rows(iter(chosen)))
    in_bulk = _taken(engine)
    engine.dispose()
    assert by_api == in_bulk, f"MLflow writes other rows: {by_api} and {in_bulk}"
    return len(in_bulk)


def _chosen(ours: Database, models: int) -> list[Version]:
    """Return the versions of the first models that have no hidden one, whose number MLflow would give to the next."""
    with ours.engine.connect() as connection:
        every = list(_versions(connection))
    numbers: dict[str, list[int]] = {}
    for version in every:
        numbers.setdefault(version.name, []).append(version.number)
    whole = [name for name, found in numbers.items() if found == list(range(1, len(found) + 1))]
    return [version for version in every if version.name in whole[:models]]


def _taken(engine: Engine) -> list[tuple[str, ...]]:
    """Take every row out of the registry's tables and return it as text, without times; every column that is there."""
    found: list[tuple[str, ...]] = []
    with engine.begin() as connection:
        for name in reversed(TABLES):
            rows = connection.execute(text(f"SELECT * FROM {name}")).mappings()
            found += [
                (name, *(f"{key}={row[key]!r}" for key in sorted(map(str, row)) if key not in _TIMES)) for row in rows
            ]
            connection.execute(text(f"DELETE FROM {name}"))
    return sorted(found)
