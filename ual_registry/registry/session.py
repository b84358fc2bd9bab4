"""Opening the database: whether its schema is ours, and the sessions that read and write it.

A fresh SQLite file is made ready once, under a lock, so that many processes may start at the same time. An existing
database, and one on a server, is never migrated without being asked (``ual db upgrade``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
from sqlalchemy.orm import Session

from ual_registry.errors import MissingExtraError, RegistryUnavailableError, StorageError
from ual_registry.registry import schema
from ual_registry.registry.faults import translate
from ual_registry.registry.place import parse_database_url, wrong_database
from ual_registry.registry.schema import SCHEMA_REVISION

__all__ = ["Database"]

_BUSY_TIMEOUT_S = 30
_MAPPED_BYTES = 1 << 30
"""So much of a file of SQLite is read through memory, which saves a call of the system for every page."""

_UPGRADE_TIMEOUT_S = 600
"""How long one upgrader waits for another: the largest registries are migrated in minutes."""

_CONNECT_TIMEOUT_S = 10

_USES_BEFORE_A_PLAN = 3
"""So often a statement is asked before PostgreSQL keeps it; for most commands that is never."""


class Database:
    """One database. Nothing is opened before the first question.

    It may be used by many threads: each takes a connection for as long as its session lasts.

    Args:
        url: SQLAlchemy URL; of PostgreSQL, the form that libpq knows.

    Raises:
        RegistryError: The URL is not well formed, or names another kind of database.
        MissingExtraError: The driver for PostgreSQL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url: URL = parse_database_url(url)
        self.engine = _engine(self.url)
        self._writers = self.engine.execution_options(ual_writes=True)
        self._readers = self.engine.execution_options(**({} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}))

    @classmethod
    def open(cls, url: str) -> Database:
        """Open a database whose schema is current; a fresh SQLite file is made ready.

        Raises:
            RegistryError: The URL is none of a registry.
            RegistryUnavailableError: It cannot be reached, or its schema is older or newer than this program.
            MissingExtraError: The driver for PostgreSQL is not installed.
        """
        database = cls(url)
        if database.sqlite_file is not None and database.is_fresh():
            database.upgrade()
        database.check_schema()
        return database

    def close(self) -> None:
        """Give back the connections that are not in use; a later question opens others."""
        self.engine.dispose()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite's, not a server's."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def sqlite_file(self) -> Path | None:
        """The file of an SQLite database; ``None`` for servers and databases in memory."""
        name = self.url.database
        return Path(name) if self.is_sqlite and name and name != ":memory:" else None

    @property
    def label(self) -> str:
        """The URL without its passwords."""
        shown = self.url.difference_update_query([name for name in self.url.query if "password" in name])
        return shown.set(drivername=self.url.get_backend_name()).render_as_string(hide_password=True)

    def is_fresh(self) -> bool:
        """Tell whether no table is there yet: no file, an empty one, or one that another process is making ready."""
        if self._is_absent():
            return True
        with self._connected() as connection:
            return not inspect(connection).get_table_names()

    def _is_absent(self) -> bool:
        file = self.sqlite_file
        return file is not None and not _has_content(file)

    def upgrade(self) -> None:
        """Bring the schema to the newest migration, one process at a time; nothing happens where it is there.

        Raises:
            RegistryUnavailableError: The database cannot be reached or migrated, its schema is newer than this
                program, or another process takes too long.
            StorageError: The folder of an SQLite file cannot be written.
        """
        file = self.sqlite_file
        if file is None:
            self._migrate()
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            Path(f"{file}.lock").touch()  # where no file can be, waiting for a lock on it would not end
            with filelock.FileLock(f"{file}.lock", timeout=_UPGRADE_TIMEOUT_S):
                self._migrate()
        except filelock.Timeout as error:
            raise RegistryUnavailableError(
                f"registry {self.label}: another process migrates it", hint="try again when it has ended"
            ) from error
        except OSError as error:
            raise StorageError.of("write", file, error) from error

    def _migrate(self) -> None:
        with self._translated(), self._writers.begin() as connection:
            if not self.is_sqlite:
                schema.take_upgrade_lock(connection, timeout_s=_UPGRADE_TIMEOUT_S)
            if foreign := schema.foreign_tables(connection):
                raise self._foreign(foreign)
            found = schema.found_revision(connection)
            if schema.is_newer(found):
                raise self._other_schema(found)
            if found != SCHEMA_REVISION:
                schema.migrate(connection)

    def current_revision(self) -> str | None:
        """Return the migration that the schema is at; ``None`` where there is none. No file is made."""
        if self._is_absent():
            return None
        with self._connected() as connection:
            return schema.found_revision(connection)

    def differences(self) -> tuple[str, ...]:
        """Say, one line each, how the tables differ from those that this program expects. No file is made."""
        if self._is_absent():
            return ("there is no database yet",)
        with self._connected() as connection:
            return schema.differences(connection)

    def check_schema(self) -> None:
        """Compare the schema with this program.

        Raises:
            RegistryUnavailableError: They differ.
        """
        found = self.current_revision()
        if found == SCHEMA_REVISION:
            return
        if not self._is_absent():
            with self._connected() as connection:
                foreign = schema.foreign_tables(connection)
            if foreign:
                raise self._foreign(foreign)
        raise self._other_schema(found)

    def _foreign(self, why: str) -> RegistryUnavailableError:
        return RegistryUnavailableError(
            f"registry {self.label}: {why}",
            hint="give the registry a database of its own, by UAL_HOME or UAL_DATABASE_URL",
        )

    def _other_schema(self, found: str | None) -> RegistryUnavailableError:
        return RegistryUnavailableError(
            f"registry {self.label}: schema is at migration {found or 'none'}, expected {SCHEMA_REVISION}",
            hint="upgrade ual-registry" if schema.is_newer(found) else "run 'ual db upgrade'",
        )

    @contextlib.contextmanager
    def session(self, *, writes: bool = False) -> Iterator[Session]:
        """Open a session whose work is committed when the block ends without an error.

        Args:
            writes: Whether it will write, so that SQLite takes its lock at once and waits for its turn.

        Raises:
            RegistryUnavailableError: The database refuses, or cannot be reached; nothing of the block is kept.
        """
        engine = self._writers if writes else self.engine
        with self._translated(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for questions, which costs less than a session.

        SQLite answers all of them from one state. PostgreSQL does not in a session either, so that a transaction would
        be two more messages for nothing.

        Raises:
            RegistryUnavailableError: The database refuses, or cannot be reached.
        """
        with self._translated(), self._readers.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise translate(error, self.label) from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return _server_engine(url)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin_immediate)
    return engine


_PLANNING = "-c random_page_cost=1.1 -c jit=off -c max_parallel_workers_per_gather=0"
"""For short questions: its defaults expect a turning disk, read whole tables where a few rows would do, and start
further processes, which takes longer than the answer."""


def _server_engine(url: URL) -> Engine:
    """Make the engine of a PostgreSQL: few connections, tested before use, and no waiting without an end."""
    ours = {
        "application_name": "ual",
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "prepare_threshold": _USES_BEFORE_A_PLAN,
        "options": f"-c lock_timeout={_BUSY_TIMEOUT_S}s -c timezone=UTC {_PLANNING}",
    }
    given = {name: value for name, value in ours.items() if name not in url.query}
    try:
        engine = create_engine(url, connect_args=given, pool_timeout=_BUSY_TIMEOUT_S)
    except ArgumentError:
        raise wrong_database("is not well formed") from None  # as for what cannot be parsed
    except ImportError as error:  # no psycopg, or one without its library
        raise MissingExtraError("postgres", needed_for="a registry on PostgreSQL") from error
    event.listen(engine, "checkout", _listen)
    return engine


def _listen(connection: Any, *_: object) -> None:
    """Hear whether the server has gone while nobody asked; a message to it and back would cost as much as an answer.

    Raises:
        DisconnectionError: It has; the pool then opens another connection.
    """
    try:
        connection.pgconn.consume_input()  # what it said as it went
        connection.pgconn.consume_input()  # that it went
    except connection.OperationalError as error:
        raise DisconnectionError(str(error)) from error


def _prepare_connection(connection: Any, _: object) -> None:
    """Several processes may read while one writes, and a broken reference is an error."""
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
    cursor = connection.cursor()
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        f"PRAGMA mmap_size={_MAPPED_BYTES}",
    ):
        cursor.execute(statement)
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once where writing is to follow, so that two writers wait instead of failing."""
    mode = "IMMEDIATE" if connection.get_execution_options().get("ual_writes") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
