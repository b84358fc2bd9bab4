"""One fresh database for each test, copied from one that was migrated once."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from ual_registry.registry.session import Database

__all__ = ["PostgresDatabases", "SqliteFiles", "create_database", "drop_database", "execute", "parameters"]


def parameters(url: str) -> dict[str, Any]:
    """Return what psycopg itself needs to connect to the database of a URL, for tests that look past the registry."""
    parsed = make_url(url)
    found = {"host": parsed.host, "port": parsed.port, "user": parsed.username, "password": parsed.password}
    return {name: value for name, value in found.items() if value} | dict(parsed.query) | {"dbname": parsed.database}


def create_database(server: str, name: str, template: str | None = None) -> None:
    """Make a database: an empty one, or a copy of one that nobody is connected to."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    execute(server, statement.format(sql.Identifier(name), sql.Identifier(template or "template0")))


def drop_database(server: str, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    execute(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def execute(server: str, statement: Any, *values: str) -> list[Any]:
    """Run a statement outside a transaction, as those that make databases must be, and return its rows."""
    with psycopg.connect(**parameters(server), autocommit=True) as connection:
        done = connection.execute(statement, values or None)
        return done.fetchall() if done.description else []


class PostgresDatabases:
    """Makes databases on a server; all of them have one prefix, and are gone after ``close``.

    Args:
        url: The server, with a user who may create databases.
    """

    def __init__(self, url: str) -> None:
        self.server = make_url(url)
        self._prefix = f"ual_test_{uuid.uuid4().hex[:12]}"
        self._counter = itertools.count(1)
        self._template: str | None = None

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """Give the URL of a database without tables, which is dropped afterwards, whoever is connected to it."""
        with self._fresh(None) as name:
            yield self._url(name)

    @contextlib.contextmanager
    def ready(self) -> Iterator[str]:
        """Give the URL of a database at the newest migration, which is dropped afterwards."""
        with self._fresh(self._migrated()) as name:
            yield self._url(name)

    def close(self) -> None:
        """Drop the migrated database."""
        if self._template is not None:
            self._drop(self._template)

    @contextlib.contextmanager
    def _fresh(self, template: str | None) -> Iterator[str]:
        name = f"{self._prefix}_{next(self._counter)}"
        self._create(name, template)
        try:
            yield name
        finally:
            self._drop(name)

    def _migrated(self) -> str:
        if self._template is None:
            name = f"{self._prefix}_template"
            self._create(name, None)
            database = Database(self._url(name))
            database.upgrade()
            database.engine.dispose()  # a database that somebody is connected to cannot be copied
            self._template = name
        return self._template

    def _url(self, name: str) -> str:
        return self.server.set(database=name).render_as_string(hide_password=False)

    def _create(self, name: str, template: str | None) -> None:
        create_database(self.server.render_as_string(hide_password=False), name, template)

    def _drop(self, name: str) -> None:
        drop_database(self.server.render_as_string(hide_password=False), name)


class SqliteFiles:
    """Copies one migrated file.

    Args:
        folder: Where that file is made when it is first asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"

    def ready(self, target: Path) -> str:
        """Make ``target`` a database at the newest migration and return its URL."""
        if not self._template.exists():
            database = Database(f"sqlite:///{self._template}")
            database.upgrade()
            database.engine.dispose()  # which also empties the write-ahead log into the file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._template, target)
        return f"sqlite:///{target}"
