"""Look after the registry's database: which schema it has, bringing it up to date, comparing it with the program."""

from __future__ import annotations

import dataclasses

from ual_registry.registry.place import place_of
from ual_registry.registry.schema import SCHEMA_REVISION
from ual_registry.registry.session import Database

__all__ = ["SchemaState", "check_schema", "current_schema", "upgrade_schema"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """Which migration a database is at.

    Attributes:
        url: The database, without its password.
        current: Its migration; ``None`` for a database without tables.
        expected: The newest migration that this program knows.
        differences: How its tables differ from those that this program expects; ``None`` where they were not compared,
            as those at another migration are not.
    """

    url: str
    current: str | None
    expected: str
    differences: tuple[str, ...] | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is at the migration that this program expects, and nothing differs where that was looked at."""
        return self.current == self.expected and not self.differences


def current_schema() -> SchemaState:
    """Say which migration the registry's database is at; nothing is changed.

    Raises:
        RegistryUnavailableError: The database cannot be reached.
    """
    return _state(_database())


def upgrade_schema() -> SchemaState:
    """Bring the registry's database to the newest migration; nothing happens where it is there already.

    Raises:
        RegistryUnavailableError: The database cannot be reached or migrated.
    """
    database = _database()
    database.upgrade()
    return _state(database)


def check_schema() -> SchemaState:
    """Compare the tables of the registry's database with those that this program expects; nothing is changed.

    Raises:
        RegistryUnavailableError: The database cannot be reached.
    """
    database = _database()
    state = _state(database)
    return dataclasses.replace(state, differences=database.differences()) if state.is_current else state


def _database() -> Database:
    return Database(place_of().database_url)


def _state(database: Database) -> SchemaState:
    return SchemaState(url=database.label, current=database.current_revision(), expected=SCHEMA_REVISION)
