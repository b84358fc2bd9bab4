"""A registry as a large team would have it, written in bulk: ``python -m benchmarks.registry_data URL``.

100,000 revisions of 112 entries each; ``registry_rows`` says of what kind.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.orm import Session

from benchmarks.registry_rows import Row, registry_rows
from ual_registry.registry.labels import renew_labels
from ual_registry.registry.session import Database
from ual_registry.registry.tables import AliasRow, RevisionRow, Table

__all__ = ["fill"]

_BATCH = 2000

_ENTRIES = """
    WITH RECURSIVE blocks(layer) AS (SELECT 0 UNION ALL SELECT layer + 1 FROM blocks WHERE layer < 63)
    INSERT INTO entries (artifact_id, position, layer, role, rank, in_features, out_features, scaling)
    SELECT r.artifact_id,
        b.layer * 7 + CASE r.role WHEN 'attention_query' THEN 0 WHEN 'attention_key' THEN 1
            WHEN 'attention_value' THEN 2 WHEN 'attention_output' THEN 3 WHEN 'mlp_up' THEN 4
            WHEN 'mlp_down' THEN 5 ELSE 6 END,
        b.layer, r.role, r.rank, 2048, 2048, 2.0
    FROM artifact_roles r JOIN blocks b ON b.layer BETWEEN r.layer_min AND r.layer_max
    WHERE r.artifact_id BETWEEN :first AND :last
    ORDER BY r.artifact_id
"""


_WORDS = """
    INSERT INTO revision_words (revision_id, number, word, adapter_name)
    SELECT DISTINCT r.id, r.number, w.word, r.adapter_name
    FROM revision_texts t JOIN revisions r ON r.id = t.revision_id
    CROSS JOIN LATERAL unnest(string_to_array(t.body, ' ')) AS w (word)
"""
"""What a trigger does on PostgreSQL, which is put out while rows are written without regard to their order."""


def fill(database: Database, count: int = 100_000, *, seed: int = 0, with_entries: bool = True) -> None:
    """Write ``count`` revisions into an empty registry; only the rows, not the files.

    Args:
        database: Of SQLite or PostgreSQL.
        count: How many revisions.
        seed: Of the random numbers.
        with_entries: Whether to write the 112 entries of each.
    """
    rows = registry_rows(count, random.Random(seed), is_sqlite=database.is_sqlite)
    with database.engine.connect() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SET session_replication_role = replica"))
        indexes = _drop_indexes(connection, is_sqlite=database.is_sqlite)
        waiting: dict[type[Table], list[Row]] = {}
        for table, row in rows:
            batch = waiting.setdefault(table, [])
            batch.append(row)
            if len(batch) == _BATCH:
                _write(connection, table, batch)
        for table, batch in waiting.items():
            _write(connection, table, batch)
        if with_entries:
            _write_entries(connection, count, is_sqlite=database.is_sqlite)
        if not database.is_sqlite:
            connection.execute(text(_WORDS))
        for index in indexes:
            connection.exec_driver_sql(index)
        with Session(connection) as session:
            renew_labels(session, RevisionRow.id.in_(select(AliasRow.revision_id)))
        connection.commit()
    if not database.is_sqlite:
        _settle(database)


def _write_entries(connection: Connection, count: int, *, is_sqlite: bool) -> None:
    """Write the entries of every artifact; PostgreSQL makes their key when all are there, which takes half as long."""
    if not is_sqlite:
        connection.exec_driver_sql("SET maintenance_work_mem = '512MB'")
        ((name, key),) = connection.execute(text(_ENTRY_KEY)).all()
        connection.exec_driver_sql(f'ALTER TABLE entries DROP CONSTRAINT "{name}"')
    for first in range(1, count + 1, _BATCH):
        connection.execute(text(_ENTRIES), {"first": first, "last": first + _BATCH - 1})
    if not is_sqlite:
        connection.exec_driver_sql(f'ALTER TABLE entries ADD CONSTRAINT "{name}" {key}')


_ENTRY_KEY = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'entries'::regclass AND contype = 'p'
"""


def _drop_indexes(connection: Connection, *, is_sqlite: bool) -> list[str]:
    """Drop what belongs to no constraint, and return what makes it again: for 100,000 rows at once that is faster."""
    found = connection.execute(text(_INDEXES[is_sqlite])).all()
    for name, _ in found:
        connection.exec_driver_sql(f'DROP INDEX "{name}"')
    return [made for _, made in found]


_INDEXES = {
    True: "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
    False: """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = current_schema() AND indexname NOT IN (SELECT conname FROM pg_constraint) ORDER BY indexname
    """,
}


def _write(connection: Connection, table: type[Table], batch: list[Row]) -> None:
    """Write rows and empty the batch; rows of one statement have the same columns."""
    if batch:
        columns = {name: None for row in batch for name in row}
        connection.execute(insert(Table.metadata.tables[table.__tablename__]), [{**columns, **row} for row in batch])
        batch.clear()


def _settle(database: Database) -> None:
    """Let PostgreSQL see the skew, as it does by itself after a while, and move its counters behind what was written.

    SQLite never looks by itself, and no command of ours asks it to.
    """
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
        for name in ("adapters", "artifacts", "base_models", "revisions"):
            counter = f"pg_get_serial_sequence('{name}', 'id')"
            connection.execute(text(f"SELECT setval({counter}, (SELECT max(id) FROM {name}))"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the database of a URL, which must be at the newest migration or empty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-entries", action="store_true")
    options = parser.parse_args(arguments)
    database = Database(options.url)
    database.upgrade()
    start = time.perf_counter()
    fill(database, options.count, seed=options.seed, with_entries=not options.without_entries)
    print(f"{options.count:,} revisions in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
