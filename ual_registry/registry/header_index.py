"""An index of headers that were read elsewhere: the tables of a registry without its bytes.

What is searched stands in the tables that a registry has, so that a query means the same here and there. One table of
its own remembers what each repository holds at each commit, what could not be read too, so that nothing is read twice.
Who reads the headers, and where they are, is left to others.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, String, Text, select
from sqlalchemy import Table as CoreTable
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryUnavailableError, StorageError
from ual_registry.registry.audit import now
from ual_registry.registry.commands import add_artifacts
from ual_registry.registry.describe import Description
from ual_registry.registry.faults import translate
from ual_registry.registry.pages import search_page
from ual_registry.registry.place import place_of
from ual_registry.registry.query import parse_query
from ual_registry.registry.revisions import Wanted, add_revisions
from ual_registry.registry.session import Database
from ual_registry.registry.transaction import transact
from ual_registry.registry.views import RevisionRecord

__all__ = ["HeaderIndex", "IndexedHeader", "IndexedRepository"]

_PAGE = 1_000
_BATCH = 500
_DAY = datetime.timedelta(days=1)
"""So long what was refused is not asked for again."""

_REPOSITORIES = CoreTable(
    "indexed_repositories",
    MetaData(),
    Column("repository", String, primary_key=True, comment="Its id."),
    Column("commit", String, primary_key=True, comment="The commit that was looked at."),
    Column("looked_at", String, nullable=False, comment="When, UTC."),
    Column("document", Text, nullable=False, comment="What it holds, as JSON."),
)
_KEPT = sqlite.insert(_REPOSITORIES)
_KEEP = _KEPT.on_conflict_do_update(
    index_elements=["repository", "commit"],
    set_={"looked_at": _KEPT.excluded.looked_at, "document": _KEPT.excluded.document},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedHeader:
    """One adapter of a repository, read or not.

    Attributes:
        name: What ``name:`` finds it by.
        path: Its file; empty where the repository holds nothing that could be one.
        form: ``air`` or ``peft``.
        size_bytes: Size of the file.
        digest: Digest of the file, where that is known without reading it whole.
        artifact: Its name in this index; ``None`` where it could not be read.
        code: Why it could not be read, as a stable code.
        reason: The same in words.
    """

    name: str
    path: str
    form: str
    size_bytes: int
    digest: str | None
    artifact: str | None = None
    code: str | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What a found revision of this index is known by."""
        return self.name, self.artifact or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRepository:
    """What a repository holds at one commit.

    Attributes:
        repository: Its id.
        commit: The commit.
        is_private: Whether others cannot see it.
        gated: How access must be asked for, where it must.
        headers: Its adapters.
        is_lasting: Whether the same would be found again at this commit; what was refused may be given tomorrow.
        looked_at: When it was looked at, UTC; set when it is kept.
    """

    repository: str
    commit: str
    is_private: bool
    gated: str | None
    headers: tuple[IndexedHeader, ...]
    is_lasting: bool = True
    looked_at: str = ""


class HeaderIndex:
    """Descriptions of headers, by repository and commit.

    Args:
        database: Its database, of SQLite.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, folder: Path) -> HeaderIndex:
        """Open the index in a folder; it is made where there is none.

        Raises:
            RegistryUnavailableError: What stands there is no index of this program.
            StorageError: The folder cannot be written.
        """
        _make_private(folder)
        try:
            database = Database.open(place_of(folder).database_url)
            try:
                _REPOSITORIES.metadata.create_all(database.engine.execution_options(ual_writes=True))
            except SQLAlchemyError as error:
                raise translate(error, database.label) from error
        except RegistryUnavailableError as error:
            error.hint = f"it is a cache: delete the folder {folder}, and run the command again"
            raise
        return cls(database)

    def known(self, repository: str, commit: str) -> IndexedRepository | None:
        """Return what was found in a repository at a commit; ``None`` where it must be looked at, perhaps again."""
        columns = _REPOSITORIES.c
        where = (columns.repository == repository, columns.commit == commit)
        with self._database.session() as session:
            document = session.execute(select(columns.document).where(*where)).scalar()
        found = None if document is None else _read(document)
        is_old = found is not None and not found.is_lasting and found.looked_at < _moment(now() - _DAY)
        return None if is_old else found

    def newest(self) -> tuple[IndexedRepository, ...]:
        """Return every repository as it was last looked at, by its id."""
        columns = _REPOSITORIES.c
        with self._database.session() as session:
            rows = session.execute(select(columns.repository, columns.document).order_by(columns.looked_at)).all()
        found = {row.repository: row.document for row in rows}
        return tuple(_read(found[repository]) for repository in sorted(found))

    def keep(
        self, found: IndexedRepository, descriptions: Sequence[tuple[str, Description]], *, is_remembered: bool = True
    ) -> IndexedRepository:
        """Keep what was found in a repository; what was known of the same commit is replaced.

        Args:
            found: What it holds.
            descriptions: The names of the headers that could be read, and what they say.
            is_remembered: Whether to give it as an answer when it is asked for again.

        Returns:
            The same with its time.
        """
        dated = dataclasses.replace(found, looked_at=_moment(now()))
        row = {
            "repository": dated.repository,
            "commit": dated.commit,
            "looked_at": dated.looked_at,
            "document": json.dumps(dataclasses.asdict(dated)),
        }

        def work(session: Session) -> None:
            for start in range(0, len(descriptions), _BATCH):
                _write(session, descriptions[start : start + _BATCH])
            if is_remembered:
                session.execute(_KEEP, row)

        transact(self._database, work)
        return dated

    def search(
        self, query: str, wanted: Set[tuple[str, str]], *, limit: int
    ) -> tuple[tuple[RevisionRecord, ...], bool]:
        """Return what a query holds for, in its order, and whether there is more.

        Args:
            query: The search language.
            wanted: The keys of the headers that may be found; the index holds older ones too.
            limit: How many at most.

        Raises:
            QueryError: The query is not well formed.
        """
        parsed = parse_query(query)
        found: list[RevisionRecord] = []
        after: str | None = None
        with self._database.reading() as connection:
            while True:
                page = search_page(connection, parsed, limit=_PAGE, after=after, text=query)
                found += [record for record in page if (record.name, record.digest) in wanted]
                after = page.next
                if after is None or len(found) > limit:
                    return tuple(found[:limit]), len(found) > limit


def _write(session: Session, descriptions: Sequence[tuple[str, Description]]) -> None:
    ids = add_artifacts(session, (own for _, own in descriptions))
    wanted = [Wanted(name=name, artifact_id=ids[own.digest], description=own) for name, own in descriptions]
    add_revisions(session, wanted)


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else reads: headers may be those of private repositories."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", folder, error) from error


def _moment(at: datetime.datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read(text: str) -> IndexedRepository:
    document: Mapping[str, Any] = json.loads(text)
    headers = tuple(IndexedHeader(**header) for header in document["headers"])
    return IndexedRepository(**{**document, "headers": headers})
