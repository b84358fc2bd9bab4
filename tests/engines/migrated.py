"""The migrations of a fresh SQLite file, worked out once in a process and said again for each further one.

Most tests of commands begin with an empty folder, and alembic takes a fifth of a second to find the same statements
each time. The tests of the migrations themselves ask for ``real_migrations``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["quick_migrations", "real_migrations"]

_READS = ("SELECT", "PRAGMA")


class _Remembered:
    """Migrates as ``migrate`` does, and a fresh SQLite file with the statements that it took the first time."""

    def __init__(self, migrate: Any) -> None:
        self.migrate = migrate
        self._statements: list[tuple[str, Any]] = []

    def __call__(self, connection: Connection) -> None:
        from sqlalchemy import inspect

        if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
            self.migrate(connection)
        elif self._statements:
            for statement, values in self._statements:
                connection.exec_driver_sql(statement, values)
        else:
            self._statements = self._noted(connection)

    def _noted(self, connection: Connection) -> list[tuple[str, Any]]:
        """Migrate, and return what was said; a migration that fails is forgotten."""
        from sqlalchemy import event

        said: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            if not statement.lstrip().upper().startswith(_READS):
                said.append((statement, values or ()))

        event.listen(connection, "before_cursor_execute", note)
        try:
            self.migrate(connection)
        finally:
            event.remove(connection, "before_cursor_execute", note)
        return said


@pytest.fixture(scope="session", autouse=True)
def quick_migrations() -> Iterator[None]:
    """Let this process migrate fresh SQLite files quickly."""
    from ual_registry.registry import schema

    real = schema.migrate
    schema.migrate = _Remembered(real)
    yield
    schema.migrate = real


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let alembic do every migration of a test."""
    from ual_registry.registry import schema

    assert isinstance(schema.migrate, _Remembered)
    monkeypatch.setattr(schema, "migrate", schema.migrate.migrate)
