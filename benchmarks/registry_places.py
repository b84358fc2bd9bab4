"""Where the databases of a benchmark are: fresh ones, and filled ones that are kept from one run to the next.

To fill a database takes minutes and to ask it seconds. What is kept is never asked itself: every run works on a copy,
to which it adds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.engines.databases import create_database, drop_database, execute
from tests.engines.server import start

__all__ = ["PLACES", "Keeping", "Place", "PostgresPlace", "SqlitePlace"]

_EXISTS = "SELECT 1 FROM pg_database WHERE datname = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What outlives a run.

    Attributes:
        folder: Where filled SQLite files are kept; ``None`` keeps nothing.
        server: URL of a running PostgreSQL whose user may create databases; filled ones are kept there where there is
            a folder. ``None`` starts a server, which ends with the run and keeps nothing.
    """

    folder: Path | None = None
    server: str | None = None


class SqlitePlace:
    """Files in a folder that is gone after the run.

    Args:
        folder: That folder.
        kept: Where filled files are kept.
    """

    def __init__(self, folder: Path, kept: Path | None) -> None:
        self._folder, self._kept = folder, kept

    def make(self, name: str) -> str:
        """Return the URL of a fresh database."""
        return f"sqlite:///{self._folder / name}.db"

    def found(self, name: str) -> str | None:
        """Return the URL of a copy of a filled database; ``None`` where none was kept."""
        kept = self._place(name)
        if kept is None or not kept.exists():
            return None
        shutil.copyfile(kept, self._folder / f"{name}.db")
        return self.make(name)

    def keep(self, name: str) -> None:
        """Keep a database that was made under this name, as it is now."""
        place = self._place(name)
        if place is None:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        source, target = sqlite3.connect(self._folder / f"{name}.db"), sqlite3.connect(new)
        with contextlib.closing(source), contextlib.closing(target):
            source.backup(target)
        new.replace(place)

    def _place(self, name: str) -> Path | None:
        return None if self._kept is None else self._kept / f"{name}.db"


class PostgresPlace:
    """Databases on a server; those of the run are dropped at its end.

    Args:
        server: URL of the server.
        keeps: Whether filled databases are kept on it.
    """

    def __init__(self, server: str, *, keeps: bool) -> None:
        self._server, self._keeps = server, keeps
        self._made: dict[str, str] = {}

    def make(self, name: str) -> str:
        """Return the URL of a fresh database."""
        return self._create(name, template=None)

    def found(self, name: str) -> str | None:
        """Return the URL of a copy of a filled database; ``None`` where none was kept."""
        kept = _kept(name)
        if not self._keeps or not execute(self._server, _EXISTS, kept):
            return None
        return self._create(name, template=kept)

    def keep(self, name: str) -> None:
        """Keep a database that was made under this name, as it is now; nobody may be connected to it."""
        if self._keeps:
            create_database(self._server, _kept(name), self._made[name])

    def close(self) -> None:
        """Drop what the run made."""
        for made in self._made.values():
            drop_database(self._server, made)

    def _create(self, name: str, *, template: str | None) -> str:
        self._made[name] = made = f"ual_bench_{name}_{uuid.uuid4().hex[:8]}"
        create_database(self._server, made, template)
        return make_url(self._server).set(database=made).render_as_string(hide_password=False)


def _kept(name: str) -> str:
    return f"ual_kept_{name}"


Place = SqlitePlace | PostgresPlace


@contextlib.contextmanager
def _sqlite(keeping: Keeping) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ual-registry-") as folder:
        yield SqlitePlace(Path(folder), keeping.folder)


@contextlib.contextmanager
def _postgresql(keeping: Keeping) -> Iterator[Place]:
    """Give databases on a server that waits for the disk, with the settings that it comes with."""
    with contextlib.ExitStack() as stack:
        url = keeping.server
        if url is None:
            server = start(watched=os.getpid(), is_durable=True)
            stack.callback(server.stop)
            url = server.url
        keeps = keeping.server is not None and keeping.folder is not None
        yield stack.enter_context(contextlib.closing(PostgresPlace(url, keeps=keeps)))


PLACES: dict[str, Callable[[Keeping], contextlib.AbstractContextManager[Place]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}
"""The engines."""
