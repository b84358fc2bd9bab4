"""The schema of an open database: which migration it is at, bringing it to the newest, and how it differs from ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import CheckConstraint, Connection, MetaData, inspect, text

from ual_registry.registry import record_tables  # noqa: F401  # the tables below hold those of this module, too
from ual_registry.registry.reference import quoted
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import Table
from ual_registry.registry.word_list import ServerTable
from ual_registry.resources import resource_folder

__all__ = [
    "SCHEMA_REVISION",
    "alembic_config",
    "differences",
    "foreign_tables",
    "found_revision",
    "is_known",
    "is_newer",
    "is_ours",
    "metadata_of",
    "migrate",
    "take_upgrade_lock",
]

SCHEMA_REVISION = "0008"
"""The newest migration; a test keeps it equal to what stands in ``migrations/``."""

_UPGRADE_LOCK = 0x75616C_5F7265
"""The key of the lock that one upgrader holds on PostgreSQL: 'ual_re' in ASCII."""

_WORD_INDEX = {
    "sqlite": {
        "revision_texts_fts": "table",
        "revision_texts_added": "trigger",
        "revision_texts_removed": "trigger",
        "revision_texts_changed": "trigger",
    },
    "postgresql": {"ix_revision_texts_words": "index", "revision_texts_kept": "trigger"},
}
_OBJECTS = {
    "sqlite": "SELECT name FROM sqlite_master",
    "postgresql": """
        SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal AND tgenabled <> 'D'
    """,
}


def metadata_of(connection: Connection) -> list[MetaData]:
    """Return the tables that a database of this engine has."""
    return [Table.metadata] if is_sqlite(connection) else [Table.metadata, ServerTable.metadata]


def found_revision(connection: Connection) -> str | None:
    """Return the migration that a database is at; ``None`` where there is none."""
    return next(iter(_found_revisions(connection)), None)


def _found_revisions(connection: Connection) -> Sequence[str]:
    if not inspect(connection).has_table(_VERSIONS):
        return ()
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()


def is_known(revision: str | None) -> bool:
    """Tell whether this program knows a migration; ``None``, where none was done, is known, too."""
    return revision is None or (bool(_REVISION.match(revision)) and revision <= SCHEMA_REVISION)


def is_newer(revision: str | None) -> bool:
    """Tell whether a migration seems to be one of a later version of this program."""
    return revision is not None and bool(_REVISION.match(revision)) and revision > SCHEMA_REVISION


def foreign_tables(connection: Connection) -> str | None:
    """Say why the tables of a database are not those of a registry; ``None`` where they may be, or may become so."""
    there, rows = set(inspect(connection).get_table_names()), _found_revisions(connection)
    if len(rows) > 1:
        return f"is at {len(rows)} migrations at once: {', '.join(sorted(map(quoted, rows)))}"
    found: str | None = rows[0] if rows else None
    if found is not None and not is_known(found) and not is_newer(found):
        return f"is at migration {quoted(found)}, which is none of a registry"
    if found is not None and _FIRST_TABLE not in there:
        return f"is at migration {quoted(found)}, and has no table {_FIRST_TABLE}"
    others = there - {_VERSIONS}
    if found is None and (_FIRST_TABLE in there or (others and is_sqlite(connection))):
        return f"holds tables and no migration of a registry: {', '.join(sorted(others)[:5])}"
    return None


_REVISION = re.compile(r"(?!0000)\d{4}\Z", re.ASCII)
_VERSIONS = "alembic_version"
_FIRST_TABLE = "artifacts"
"""Of the first migration, and of all others."""


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest migration; all of it or nothing is done when the transaction ends."""
    from alembic import command  # noqa: PLC0415  # 0.3 s that only a migration must pay

    command.upgrade(alembic_config(connection), "head")


def take_upgrade_lock(connection: Connection, *, timeout_s: float) -> None:
    """Wait for other upgraders of a PostgreSQL; the lock ends with the transaction."""
    connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{int(timeout_s * 1000)}ms"})
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})


def alembic_config(connection: Connection) -> Any:
    """Return alembic's configuration for the shipped migrations on an open connection."""
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(resource_folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def is_ours(_item: object, name: str | None, _kind: str, is_reflected: bool, _counterpart: object) -> bool:
    """Leave out what the full-text index keeps for itself: neither engine's form of it is a table of ours."""
    return not (is_reflected and str(name).startswith(("revision_texts_fts", "ix_revision_texts_words")))


def differences(connection: Connection) -> tuple[str, ...]:
    """Say, one line each, how the tables of a database differ from those that this program expects."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  # as above
    from alembic.migration import MigrationContext  # noqa: PLC0415

    options = {"compare_type": True, "compare_server_default": True, "include_object": is_ours}
    context = MigrationContext.configure(connection, opts=options)
    expected: Any = metadata_of(connection)  # it takes a list, whatever it says
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expression-based index")  # looked for by name below
        found = [step for item in compare_metadata(context, expected) for step in _steps(item)]
        lines = {*map(_line, found), *_other_details(connection), *_missing_objects(connection)}
    return tuple(sorted(lines))


def _steps(item: Any) -> Iterator[tuple[Any, ...]]:
    """Alembic groups what concerns one column in a list."""
    yield from item if isinstance(item, list) else [item]


def _line(step: tuple[Any, ...]) -> str:
    action, *what = step
    verb, _, kind = action.partition("_")
    if verb == "modify":
        _, table, column, _, found, expected = what
        return f"column {table}.{column}: {kind} is {_value(found)}, expected {_value(expected)}"
    verdict = {"add": "is missing", "remove": "is not of this program"}[verb]
    if kind == "column":
        _, table, column = what
        return f"column {table}.{column.name} {verdict}"
    if kind == "table_comment":
        return f"comment of table {what[0].name} {verdict}"
    names = {"fk": "foreign key"}
    (item,) = what[:1]
    owner = "" if kind == "table" else f" of table {item.table.name}"
    return f"{names.get(kind, kind)} {item.name}{owner} {verdict}"


def _value(value: object) -> str:
    default = getattr(value, "arg", value)
    return "none" if value is None else str(default)


def _other_details(connection: Connection) -> Iterator[str]:
    """Compare what alembic does not: primary keys, checks, and the order of texts."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    for table in (table for table in _tables(connection) if table.name in there):
        keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
        if keys != [column.name for column in table.primary_key]:
            yield f"primary key of table {table.name} is ({', '.join(keys)})"
        checks = {item["name"] for item in inspector.get_check_constraints(table.name)}
        for item in table.constraints:
            if isinstance(item, CheckConstraint) and item.name not in checks:
                yield f"check {item.name} of table {table.name} is missing"
        found = {item["name"]: _collation(item["type"]) for item in inspector.get_columns(table.name)}
        for column in table.columns:
            expected = _collation(column.type.dialect_impl(connection.dialect))
            if expected is not None and found.get(column.name, expected) != expected:
                was = _value(found[column.name])
                yield f"column {table.name}.{column.name}: collation is {was}, expected {expected}"


def _tables(connection: Connection) -> Iterator[Any]:
    for metadata in metadata_of(connection):
        yield from metadata.sorted_tables


def _collation(kind: object) -> str | None:
    found: str | None = getattr(kind, "collation", None)
    return found


def _missing_objects(connection: Connection) -> Iterator[str]:
    """Look for the full-text index, and for the indexes of expressions, which SQLite does not describe."""
    engine = connection.dialect.name
    there = set(connection.execute(text(_OBJECTS[engine])).scalars())
    yield from (f"{kind} {name} is missing" for name, kind in _WORD_INDEX[engine].items() if name not in there)
    for table in _tables(connection):
        absent = [str(index.name) for index in table.indexes if index.name not in there]
        yield from (f"index {name} of table {table.name} is missing" for name in absent)
