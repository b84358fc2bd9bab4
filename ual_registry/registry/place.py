"""Where a registry is: its folder, its database and its store, by argument or by environment.

An argument counts more than a variable. A folder given as an argument is a whole registry, database and store, so
then the variables that place those elsewhere do not count.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ual_registry.errors import RegistryError
from ual_registry.registry.reference import quoted

__all__ = ["Place", "parse_database_url", "parse_store_url", "place_of", "registry_home", "wrong_database"]

_DATABASE_HINT = "such as sqlite:////home/me/registry.db or postgresql://me@host/registry"
_STORE_HINT = "give a folder, as a path or as a file:// URL"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://|$|(?<=file:)|(?<=FILE:))")  # one letter is a drive
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}

_SQLITE_OPTIONS = frozenset({"cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout"})
"""Those of the driver; with ``uri=true`` SQLite itself reads the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The two halves of a registry.

    Attributes:
        database_url: The database, with its password.
        store: The folder of the blobs.
    """

    database_url: str
    store: Path


def registry_home() -> Path:
    """Return the folder of the embedded registry: ``UAL_HOME``, or the platform's data folder."""
    home = os.environ.get("UAL_HOME")
    return _of_user(home) if home else Path(platformdirs.user_data_dir("ual-registry", appauthor=False))


def _of_user(text: str) -> Path:
    """Return the path that a text means, where ``~`` is the user's folder: in a variable no shell replaces it."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # leaves what names no user as it is


def place_of(
    home: str | Path | None = None, *, database_url: str | None = None, store_url: str | Path | None = None
) -> Place:
    """Say where a registry is.

    Args:
        home: Its folder; by default ``UAL_HOME``, or the platform's data folder.
        database_url: Its database; by default ``UAL_DATABASE_URL``, or the file ``registry.db`` in the folder.
        store_url: Its store; by default ``UAL_STORE_URL``, or ``blobs`` in the folder.

    Raises:
        RegistryError: The store is none that this program knows.
    """
    folder = Path(home) if home is not None else registry_home()
    if home is None:
        database_url = database_url or os.environ.get("UAL_DATABASE_URL")
        store_url = store_url or os.environ.get("UAL_STORE_URL")
    return Place(
        database_url=database_url or _url_of(folder / "registry.db"),
        store=parse_store_url(store_url) if store_url else folder / "blobs",
    )


def parse_database_url(url: str) -> URL:
    """Parse the URL of a database and name its driver. What is not understood is not repeated: it may hold a password.

    Raises:
        RegistryError: It is not well formed, or names another kind of database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise wrong_database("is not well formed") from None  # the cause would show the password
    if "@" in (parsed.host or ""):
        raise wrong_database("has more than one '@'; write one that belongs to the password as %40")
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise wrong_database(f"names {parsed.drivername!r}, and a registry is kept in sqlite or postgresql")
    unknown = sorted(parsed.query.keys() - _SQLITE_OPTIONS) if driver == "sqlite" and "uri" not in parsed.query else []
    if unknown:
        raise wrong_database(f"has an option that SQLite does not know: {quoted(unknown[0])}")
    return parsed.set(drivername=driver)


def parse_store_url(url: str | Path) -> Path:
    """Return the folder that the URL of a store names.

    Raises:
        RegistryError: It names another kind of store.
    """
    text = os.fspath(url)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _of_user(text)
    parts = urlsplit(text)
    if scheme[1].lower() != "file":
        raise RegistryError(
            f"a store of kind {scheme[1]!r} is not known", context={"scheme": scheme[1]}, hint=_STORE_HINT,
            code="store-url",
        )  # fmt: skip
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise RegistryError(
            f"store {text!r} names no folder of this machine", hint="such as file:///srv/blobs", code="store-url"
        )
    return Path(unquote(parts.path))


def _url_of(file: Path) -> str:
    return URL.create("sqlite", database=str(file.resolve())).render_as_string()


def wrong_database(problem: str) -> RegistryError:
    """Return the error of a URL that is not repeated, because it may hold a password."""
    return RegistryError(f"the database URL {problem}", hint=_DATABASE_HINT, code="database-url")
