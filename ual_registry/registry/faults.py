"""What a database refuses, told in our words: which registry, what its engine says, and what to do.

SQLite names its errors by codes, a running PostgreSQL by those of SQL, and a connection that never came about by text
alone. No message of either engine holds a password, and neither do ours.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ual_registry.errors import RegistryUnavailableError

__all__ = ["translate"]

_AGAIN = "run the same again: what is there already is not added twice"
_FULL = "free some space on the disk"
_FOREIGN = "is this a registry's database?"
_REACH = "check that the database can be reached and written"

_SQLITE_HINTS = {
    "SQLITE_BUSY": "another process writes for long; try again when it has ended",
    "SQLITE_LOCKED": "another process writes for long; try again when it has ended",
    "SQLITE_READONLY": "check the permissions of the file and of its folder, which SQLite writes too",
    "SQLITE_CANTOPEN": "check the permissions of the file and of its folder, which SQLite writes too",
    "SQLITE_PERM": "check the permissions of the file and of its folder, which SQLite writes too",
    "SQLITE_FULL": _FULL,
    "SQLITE_IOERR": "check the disk: it may be full, damaged or gone",
    "SQLITE_CORRUPT": "the file is damaged: put a backup in its place, or save what 'sqlite3 FILE .recover' can read",
    "SQLITE_NOTADB": _FOREIGN,
}
_STATE_HINTS = {
    "25006": "this server takes no writes; give the address of the one that does",
    "40001": _AGAIN,
    "40P01": _AGAIN,
    "42501": "ask the owner of the database for the right to do so",
    "42P01": _FOREIGN,
    "42703": _FOREIGN,
    "53100": "free some space on the server's disk",
    "53200": "the server is short of memory; try again later",
    "55P03": "another process holds what is needed for long; try again when it has ended",
    "57014": "the server allows statements less time than this one took; raise its statement_timeout",
}
_LOST_STATES = ("08", "57P", "25P03", "25P04")
_LOST = f"the connection was lost; {_AGAIN}"
_TEXT_HINTS = (
    ("too many clients", "wait until others have ended, or raise the server's max_connections"),
    ("remaining connection slots", "wait until others have ended, or raise the server's max_connections"),
    ("too many connections", "wait until others have ended, or raise the server's limit"),
    ("authentication failed", "check the user and the password"),
    ("no password supplied", "check the user and the password"),
    ("no pg_hba.conf entry", "the server does not let this user in from here; ask who runs it"),
    ('role "', "check the user"),
    ('database "', "check the database's name; who runs the server makes it with CREATE DATABASE"),
    ("is starting up", "try again in a moment"),
    ("is shutting down", "try again when the server is back"),
    ("in recovery mode", "try again in a moment"),
    ("invalid connection option", "check what stands behind the '?' of the URL"),
)
_NO_SERVER = "check that the server runs, and that it can be reached from here"


def translate(error: SQLAlchemyError, label: str) -> RegistryUnavailableError:
    """Return our error for one of a database.

    Args:
        error: What SQLAlchemy or the driver raised.
        label: The database, without its password.
    """
    if isinstance(error, PoolTimeoutError):
        return RegistryUnavailableError(
            f"registry {label}: every connection of this process is in use", hint="use fewer threads at once"
        )
    origin = error.orig if isinstance(error, DBAPIError) else error
    said = str(origin).strip().splitlines() or [type(origin).__name__]
    return RegistryUnavailableError(f"registry {label}: {said[0]}", hint=_hint(error, origin, said[0]))


def _hint(error: SQLAlchemyError, origin: BaseException | None, said: str) -> str:
    if isinstance(origin, sqlite3.Error):
        name = getattr(origin, "sqlite_errorname", "")
        kind = "_".join(name.split("_")[:2])
        return _SQLITE_HINTS.get(kind, _REACH if isinstance(origin, sqlite3.OperationalError) else _FOREIGN)
    state = getattr(origin, "sqlstate", None)
    if state is not None:
        return _STATE_HINTS.get(state, _LOST if state.startswith(_LOST_STATES) else _REACH)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _LOST
    if isinstance(error, DBAPIError):
        return next((hint for text, hint in _TEXT_HINTS if text in said), _NO_SERVER)
    return _FOREIGN
