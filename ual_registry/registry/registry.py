"""The registry as one object: a database and a blob store that belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from ual_registry.digest import Digest
from ual_registry.errors import RegistryError
from ual_registry.registry import marks, queries
from ual_registry.registry.adding import AddOrder, add_file, add_files
from ual_registry.registry.audit import read_log
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.care import RegistryCare
from ual_registry.registry.files import check_outside
from ual_registry.registry.lineage import LineageOrder, check_known, lineage
from ual_registry.registry.linking import RegistryLinks
from ual_registry.registry.marks import AliasOrder
from ual_registry.registry.pages import check_limit, list_page, revisions_page, search_page
from ual_registry.registry.place import place_of
from ual_registry.registry.query import parse_order, parse_query
from ual_registry.registry.records import (
    AdapterEdit,
    AddOutcome,
    AddResult,
    AliasMove,
    HubPlace,
    LogEntry,
    TagChange,
    YankResult,
)
from ual_registry.registry.reference import Reference, check_alias, check_list, check_name, check_tag, check_text
from ual_registry.registry.session import Database
from ual_registry.registry.tombstones import check_held
from ual_registry.registry.transaction import transact
from ual_registry.registry.views import AdapterRecord, LineageGraph, Page, RevisionRecord

__all__ = ["DEFAULT_LIMIT", "LINEAGE_LIMIT", "Registry"]

DEFAULT_LIMIT = 100
"""How many hits a search returns at most, unless told."""

LINEAGE_LIMIT = 250
"""Edges of a lineage, each way."""


class Registry(RegistryCare, RegistryLinks):
    """Adapters, their revisions, aliases and lineage.

    Args:
        database: The opened database.
        blobs: The store of the bytes.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self.database = database
        self.blobs = blobs

    @classmethod
    def open(
        cls, home: str | Path | None = None, *, database_url: str | None = None, store_url: str | Path | None = None
    ) -> Registry:
        """Open a registry; an embedded one is made where there is none.

        Args:
            home: Its folder; by default ``UAL_HOME``, or the platform's data folder.
            database_url: Its database, of SQLite or PostgreSQL; by default ``UAL_DATABASE_URL``, or a file in the
                folder. A folder given by argument counts more than the variable.
            store_url: The folder of its blobs, as a path or a ``file://`` URL; by default ``UAL_STORE_URL``, or one in
                the folder.

        Raises:
            RegistryError: A URL is none that this program knows.
            RegistryUnavailableError: The database cannot be used, or must be migrated first.
            MissingExtraError: The driver for PostgreSQL is not installed.
            StorageError: The folder cannot be written.
        """
        place = place_of(home, database_url=database_url, store_url=store_url)
        return cls(Database.open(place.database_url), BlobStore(place.store))

    def close(self) -> None:
        """Give back the connections to the database; leaving a ``with`` block does the same."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        path: str | Path,
        *,
        name: str,
        aliases: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        owner: str | None = None,
        description: str | None = None,
        pulled_from: HubPlace | None = None,
    ) -> AddResult:
        """Add a file as the next revision of an adapter.

        The file is copied, and the copy is checked in full, tensors included; its bytes are kept as they are.
        Its header is checked before, so that other files are refused under their own name and without copying them.
        The same bytes under the same name are the same revision. A crash leaves at worst a blob without a row.

        Args:
            path: An AIR file of any kind.
            name: The adapter's name; made on first use.
            aliases: Aliases to point at the revision.
            tags: Tags to set on the revision; the value is empty where there is none.
            owner: Who answers for the adapter; ``None`` leaves it as it is.
            description: What the adapter is for; ``None`` leaves it as it is.
            pulled_from: Where on the Hub it came from; linked in the same transaction.

        Raises:
            FormatError: The file is not legal AIR.
            RegistryError: A name is not allowed, or other processes were in the way.
            StorageError: The file cannot be read, or the store cannot be written.
        """
        order = AddOrder(
            name=name,
            aliases=aliases,
            tags=tags or {},
            owner=owner,
            description=description,
            pulled_from=pulled_from,
        )
        return add_file(self.database, self.blobs, Path(path), order)

    def add_many(self, jobs: Iterable[tuple[str | Path, AddOrder]]) -> Iterator[AddOutcome]:
        """Add many files, a batch in each transaction; one that fails does not stop the others.

        Args:
            jobs: The files, and what each is added as.

        Yields:
            What became of each file, in their order, once it is there to stay.
        """
        return add_files(self.database, self.blobs, ((Path(path), order) for path, order in jobs))

    def resolve(self, reference: str) -> Digest:
        """Return the digest of what a reference names.

        Raises:
            RegistryError: It is not well formed, or names nothing here.
        """
        parsed = Reference.parse(reference)
        with self.database.reading() as connection:
            return Digest.parse(queries.find_digest(connection, parsed))

    def find(self, reference: str) -> Path:
        """Return the stored file of what a reference names; it must not be written to.

        Raises:
            RegistryError: The reference names nothing here, or the bytes are gone.
        """
        digest = self.resolve(reference)
        self._check_held(digest)
        return self.blobs.find(digest)

    def get(self, reference: str, target: str | Path) -> Digest:
        """Copy the exact bytes that were added to ``target``, and compare them with their digest.

        Raises:
            RegistryError: The reference names nothing here, or the bytes are gone.
            DigestMismatchError: The stored bytes were changed.
            StorageError: The file system refuses.
        """
        check_outside(Path(target), self.database.sqlite_file, self.blobs.root)
        digest = self.resolve(reference)
        self.blobs.export(digest, Path(target), size_bytes=self._check_held(digest))
        return digest

    def _check_held(self, digest: Digest) -> int:
        with self.database.session() as session:
            return check_held(session, str(digest))

    def list(
        self,
        *,
        owner: str | None = None,
        config_digest: str | None = None,
        order: str = "name",
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[AdapterRecord]:
        """Return adapters with their newest revision that is not hidden.

        Args:
            owner: Whose adapters; ``None`` for everybody's.
            config_digest: Of the base model's ``config.json``: those whose newest revision is for it; ``None`` for all.
            order: A field that can be an order, such as ``name`` or ``size``; ``-`` before it turns it round.
            limit: How many at most.
            after: The cursor of the page before.

        Raises:
            QueryError: There is no such order.
            RegistryError: The cursor is none of this list, the limit is too large, or nobody can be called so.
        """
        check_limit(limit)
        check_text("owner", owner)
        parsed = parse_order(order)
        with self.database.reading() as connection:
            return list_page(
                connection, owner=owner, config_digest=config_digest, order=parsed, limit=limit, after=after
            )

    def revisions(self, name: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[RevisionRecord]:
        """Return the revisions of an adapter, hidden ones too, newest first.

        Args:
            name: The adapter.
            limit: How many at most.
            after: The cursor of the page before.

        Raises:
            RegistryNotFoundError: There is no such adapter.
            RegistryError: The cursor is none of this list, or the limit is too large.
        """
        check_limit(limit)
        with self.database.reading() as connection:
            return revisions_page(connection, check_name(name), limit=limit, after=after)

    def search(self, query: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[RevisionRecord]:
        """Return the revisions that a query holds for; by name and newest first, unless it names an order.

        Args:
            query: The search language; the empty query holds for everything that is not hidden.
            limit: How many at most.
            after: The cursor of the page before.

        Raises:
            QueryError: The query is not well formed, or names a revision that is not here.
            RegistryError: The cursor is none of this query, or the limit is too large.
        """
        check_limit(limit)
        parsed = parse_query(query)
        with self.database.reading() as connection:
            return search_page(connection, parsed, limit=limit, after=after, text=query)

    def lineage(
        self,
        reference: str,
        *,
        up: bool = True,
        down: bool = True,
        depth: int | None = None,
        relations: Sequence[str] = (),
        limit: int | None = LINEAGE_LIMIT,
    ) -> LineageGraph:
        """Return what an artifact was made from (``up``), and what was made from it (``down``).

        A digest may also be that of a deleted artifact, or of a parent that never was here. Of a large lineage the
        nearest generations are returned, and ``is_complete`` is false.

        Args:
            reference: The artifact.
            up: Whether to follow the parents.
            down: Whether to follow the children.
            depth: How many generations; ``None`` follows to the ends.
            relations: Which edges to follow, such as ``projected_from``; empty follows all.
            limit: How many edges each way at most; ``None`` returns all.

        Raises:
            RegistryError: The reference names nothing here, the limit is below 1, or there is no such relation.
        """
        parsed = Reference.parse(reference)
        order = LineageOrder(up=up, down=down, depth=depth, relations=check_list("relations", relations), limit=limit)
        order.check()
        with self.database.reading() as connection:
            if parsed.digest is not None:
                check_known(connection, str(parsed.digest))
            digest = str(parsed.digest or queries.find_digest(connection, parsed))
            return lineage(connection, digest, order)

    def alias(
        self,
        name: str,
        alias: str,
        revision: str | None = None,
        *,
        expected: int | None = None,
        protect: bool | None = None,
        force: bool = False,
        why: str | None = None,
    ) -> AliasMove:
        """Point an alias at a revision, protect it, or free it.

        Args:
            name: The adapter.
            alias: The alias.
            revision: A number, or another alias of the same adapter; ``None`` leaves it where it is.
            expected: The revision that the alias must point to now (0: none); otherwise nothing is changed.
            protect: Whether it shall change only by force and with a reason; ``None`` leaves that as it is.
            force: Whether a protected alias may be changed; needs ``why``.
            why: The reason, for the audit log.

        Raises:
            RegistryNotFoundError: There is no such adapter or revision.
            RegistryConflictError: The alias does not point to ``expected``.
            RegistryError: The alias is protected, or a name or reason is not allowed.
        """
        check_name(name)
        check_alias(alias)
        check_text("reason", why)
        target = None if revision is None else Reference.parse(f"{name}@{revision}")
        order = AliasOrder(expected=expected, protect=protect, force=force, why=why)
        return transact(self.database, lambda session: marks.move_alias(session, name, alias, target, order))

    def unalias(
        self, name: str, alias: str, *, expected: int | None = None, force: bool = False, why: str | None = None
    ) -> AliasMove:
        """Delete an alias; the arguments and the errors are those of ``alias``."""
        check_name(name)
        check_alias(alias)
        check_text("reason", why)
        order = AliasOrder(expected=expected, force=force, why=why)
        return transact(self.database, lambda session: marks.delete_alias(session, name, alias, order))

    def tag(self, reference: str, tags: Mapping[str, str] | None = None, *, remove: Sequence[str] = ()) -> TagChange:
        """Set and remove tags of a revision.

        Args:
            reference: The revision; a digest must mean one alone.
            tags: Keys and values to set; the value is empty where there is none.
            remove: Keys to remove; one that is not there is no mistake.

        Raises:
            RegistryError: The reference names no revision here, or a tag is not allowed.
        """
        parsed = Reference.parse(reference)
        new = dict(check_tag(key, value) for key, value in (tags or {}).items())
        gone = check_list("remove", remove)
        return transact(self.database, lambda session: marks.change_tags(session, parsed, new, remove=gone))

    def yank(self, reference: str, *, why: str) -> YankResult:
        """Hide a revision from lists and searches, and from its adapter's name; number and alias still find it.

        Args:
            reference: The revision; a digest must mean one alone.
            why: The reason.

        Raises:
            RegistryError: The reference names no revision here, or there is no reason.
        """
        parsed = Reference.parse(reference)
        if not why.strip():
            raise RegistryError("a yank needs a reason", code="text", hint="such as --why 'trained on leaked data'")
        check_text("reason", why)
        return transact(self.database, lambda session: marks.yank(session, parsed, why=why))

    def unyank(self, reference: str) -> YankResult:
        """Show a revision again that was hidden.

        Raises:
            RegistryError: The reference names no revision here.
        """
        parsed = Reference.parse(reference)
        return transact(self.database, lambda session: marks.yank(session, parsed, why=None))

    def describe(self, name: str, *, owner: str | None = None, description: str | None = None) -> AdapterEdit:
        """Say who answers for an adapter and what it is for.

        Args:
            name: The adapter.
            owner: Who answers for it; ``None`` leaves that as it is, an empty text clears it.
            description: What it is for; likewise.

        Raises:
            RegistryError: There is no such adapter, or a text is too long.
        """
        check_name(name)
        check_text("owner", owner)
        check_text("description", description)
        return transact(
            self.database, lambda session: marks.edit_adapter(session, name, owner=owner, description=description)
        )

    def log(
        self, reference: str | None = None, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[LogEntry]:
        """Return what was done, newest first.

        Args:
            reference: An adapter, a revision, an alias or a digest; ``None`` for everything.
            limit: How many entries at most.
            after: ``next`` of an earlier page.

        Raises:
            RegistryError: The reference names nothing here, or the cursor is none of ours.
        """
        parsed = None if reference is None else Reference.parse(reference)
        with self.database.session() as session:
            return read_log(session, parsed, limit=limit, after=after)
