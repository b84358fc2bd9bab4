"""Look after the registry's database: which schema it has, and bringing it up to date."""

from __future__ import annotations

from dataclasses import dataclass

from ual_registry.registry.registry import registry_url
from ual_registry.registry.session import SCHEMA_REVISION, Database

__all__ = ["SchemaState", "current_schema", "upgrade_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """Which migration a database is at.

    Attributes:
        url: The database, without its password.
        current: Its migration; ``None`` for a database without tables.
        expected: The newest migration that this program knows.
    """

    url: str
    current: str | None
    expected: str


def current_schema() -> SchemaState:
    """Say which migration the registry's database is at; nothing is changed.

    Raises:
        RegistryUnavailableError: The database cannot be reached.
    """
    return _state(Database(registry_url()))


def upgrade_schema() -> SchemaState:
    """Bring the registry's database to the newest migration; nothing happens where it is there already.

    Raises:
        RegistryUnavailableError: The database cannot be reached or migrated.
    """
    database = Database(registry_url())
    database.upgrade()
    return _state(database)


def _state(database: Database) -> SchemaState:
    return SchemaState(url=database.label, current=database.current_revision(), expected=SCHEMA_REVISION)
