"""Opening the database: where it is, whether its schema is ours, and how its errors are told.

A fresh SQLite file is made ready once, under a lock, so that many processes may start at the same time. An existing
database is never migrated without being asked (``ual db upgrade``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryUnavailableError, StorageError
from ual_registry.resources import resource_folder

__all__ = ["SCHEMA_REVISION", "Database"]

SCHEMA_REVISION = "0001"
"""The newest migration; a test keeps it equal to what stands in ``migrations/``."""

_BUSY_TIMEOUT_S = 30


class Database:
    """One database, opened.

    Args:
        url: SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url: URL = make_url(url)
        except ArgumentError as error:
            raise RegistryUnavailableError(
                f"database URL {url!r} is not well formed", hint="such as sqlite:////home/me/registry.db"
            ) from error
        self.engine = _engine(self.url)

    @classmethod
    def open(cls, url: str) -> Database:
        """Open a database whose schema is current; a fresh SQLite file is made ready.

        Raises:
            RegistryUnavailableError: It cannot be reached, or its schema is older or newer than this program.
        """
        database = cls(url)
        if database.sqlite_file is not None and database.is_fresh():
            database.upgrade()
        database.check_schema()
        return database

    @property
    def sqlite_file(self) -> Path | None:
        """The file of an SQLite database; ``None`` for servers and databases in memory."""
        name = self.url.database
        return Path(name) if self.url.get_backend_name() == "sqlite" and name and name != ":memory:" else None

    @property
    def label(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def is_fresh(self) -> bool:
        """Tell whether no table is there yet: no file, an empty one, or one that another process is making ready."""
        if self._is_absent():
            return True
        with self._translated(), self.engine.connect() as connection:
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
            with filelock.FileLock(f"{file}.lock", timeout=_BUSY_TIMEOUT_S):
                self._migrate()
        except filelock.Timeout as error:
            raise RegistryUnavailableError(f"registry {self.label}: another process migrates it") from error
        except OSError as error:
            raise StorageError.of("write", file, error) from error

    def _migrate(self) -> None:
        from alembic import command  # noqa: PLC0415  # 0.3 s that only a migration must pay

        found = self.current_revision()
        if found is not None and found > SCHEMA_REVISION:
            raise self._other_schema(found)
        engine = self.engine.execution_options(ual_writes=True)
        with self._translated(), engine.begin() as connection:
            command.upgrade(alembic_config(connection), "head")

    def current_revision(self) -> str | None:
        """Return the migration that the schema is at; ``None`` where there is none. No file is made."""
        if self._is_absent():
            return None
        with self._translated(), self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return found

    def check_schema(self) -> None:
        """Compare the schema with this program.

        Raises:
            RegistryUnavailableError: They differ.
        """
        found = self.current_revision()
        if found != SCHEMA_REVISION:
            raise self._other_schema(found)

    def _other_schema(self, found: str | None) -> RegistryUnavailableError:
        is_newer = found is not None and found > SCHEMA_REVISION
        return RegistryUnavailableError(
            f"registry {self.label}: schema is at migration {found or 'none'}, expected {SCHEMA_REVISION}",
            hint="upgrade ual-registry" if is_newer else "run 'ual db upgrade'",
        )

    @contextlib.contextmanager
    def session(self, *, writes: bool = False) -> Iterator[Session]:
        """Open a session whose work is committed when the block ends without an error.

        Args:
            writes: Whether it will write, so that SQLite takes its lock at once and waits for its turn.
        """
        engine = self.engine.execution_options(ual_writes=writes)
        with self._translated(), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise RegistryUnavailableError(
                f"registry {self.label}: {error.orig}",
                hint="check that the database can be reached and written",
            ) from error
        except SQLAlchemyError as error:
            raise RegistryUnavailableError(
                f"registry {self.label}: {getattr(error, 'orig', error)}",
                hint="is this a registry's database?",
            ) from error


def alembic_config(connection: Connection) -> Any:
    """Return alembic's configuration for the shipped migrations on an open connection."""
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(resource_folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_connection(connection: Any, _: object) -> None:
    """Several processes may read while one writes, and a broken reference is an error."""
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
    cursor = connection.cursor()
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON"):
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
