"""The registry as one object: a database and a blob store that belong together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from sqlalchemy.engine import URL

from ual_registry.air.read import read, verify
from ual_registry.digest import Digest
from ual_registry.registry import commands, queries
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.query import parse_query
from ual_registry.registry.records import AdapterRecord, AddResult, AliasMove, LineageGraph, RevisionRecord
from ual_registry.registry.reference import Reference, check_alias, check_name
from ual_registry.registry.session import Database

__all__ = ["DEFAULT_LIMIT", "Registry", "registry_home", "registry_url"]

DEFAULT_LIMIT = 100
"""How many hits a search returns at most, unless told."""


def registry_home() -> Path:
    """Return the folder of the embedded registry: ``UAL_HOME``, or the platform's data folder."""
    home = os.environ.get("UAL_HOME")
    return Path(home) if home else Path(platformdirs.user_data_dir("ual-registry", appauthor=False))


def registry_url(home: Path | None = None) -> str:
    """Return the URL of the database in a registry's folder."""
    file = (home or registry_home()).resolve() / "registry.db"
    return URL.create("sqlite", database=str(file)).render_as_string()


class Registry:
    """Adapters, their revisions, aliases and lineage.

    Args:
        database: The opened database.
        blobs: The store of the bytes.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self.database = database
        self.blobs = blobs

    @classmethod
    def open(cls, home: str | Path | None = None) -> Registry:
        """Open the registry in a folder; it is made where there is none.

        Args:
            home: The folder; by default ``UAL_HOME``, or the platform's data folder.

        Raises:
            RegistryUnavailableError: The database cannot be used.
            StorageError: The folder cannot be written.
        """
        folder = Path(home) if home is not None else registry_home()
        return cls(Database.open(registry_url(folder)), BlobStore(folder / "blobs"))

    def add(self, path: str | Path, *, name: str, aliases: Sequence[str] = ()) -> AddResult:
        """Add a file as the next revision of an adapter.

        The file is copied, and the copy is checked in full, tensors included; its bytes are kept as they are.
        Its header is checked before, so that other files are refused under their own name and without copying them.
        The same bytes under the same name are the same revision. A crash leaves at worst a blob without a row.

        Args:
            path: An AIR file.
            name: The adapter's name; made on first use.
            aliases: Aliases to point at the revision.

        Raises:
            FormatError: The file is not legal AIR.
            RegistryError: A name is not allowed, or another process was faster.
            StorageError: The file cannot be read, or the store cannot be written.
        """
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        read(path).close()
        with self.blobs.stage(Path(path)) as staged, read(staged.path) as adapter:
            verify(adapter)
            staged.keep()
            digest = str(staged.digest)
            with self.database.session(writes=True) as session:
                commands.add_artifact(session, adapter, digest=digest, size_bytes=staged.size_bytes)
                number, is_new = commands.add_revision(session, name, digest)
                target = Reference(name=name, number=number)
                moves = [commands.move_alias(session, name, alias, target, expected=None) for alias in aliases]
        return AddResult(name=name, number=number, digest=digest, is_new=is_new, moves=tuple(moves))

    def resolve(self, reference: str) -> Digest:
        """Return the digest of what a reference names.

        Raises:
            RegistryError: It is not well formed, or names nothing here.
        """
        parsed = Reference.parse(reference)
        with self.database.session() as session:
            return Digest.parse(queries.find_digest(session, parsed))

    def find(self, reference: str) -> Path:
        """Return the stored file of what a reference names; it must not be written to.

        Raises:
            RegistryError: The reference names nothing here, or the bytes are gone.
        """
        return self.blobs.find(self.resolve(reference))

    def get(self, reference: str, target: str | Path) -> Digest:
        """Copy the exact bytes that were added to ``target``, and compare them with their digest.

        Raises:
            RegistryError: The reference names nothing here, or the bytes are gone.
            DigestMismatchError: The stored bytes were changed.
            StorageError: The file system refuses.
        """
        digest = self.resolve(reference)
        self.blobs.export(digest, Path(target))
        return digest

    def list(self) -> tuple[AdapterRecord, ...]:
        """Return every adapter with its newest revision, by name."""
        with self.database.session() as session:
            return tuple(queries.list_adapters(session))

    def revisions(self, name: str) -> tuple[RevisionRecord, ...]:
        """Return every revision of an adapter, newest first.

        Raises:
            RegistryNotFoundError: There is no such adapter.
        """
        with self.database.session() as session:
            return tuple(queries.revisions(session, check_name(name)))

    def search(self, query: str, *, limit: int = DEFAULT_LIMIT) -> tuple[RevisionRecord, ...]:
        """Return the revisions that a query holds for, by name and newest first.

        Args:
            query: The search language; the empty query holds for everything.
            limit: How many at most.

        Raises:
            QueryError: The query is not well formed.
        """
        node = parse_query(query)
        with self.database.session() as session:
            return tuple(queries.search(session, node, limit=limit))

    def lineage(self, reference: str, *, up: bool = True, down: bool = True) -> LineageGraph:
        """Return what an artifact was made from (``up``), and what was made from it (``down``).

        Raises:
            RegistryError: The reference names nothing here.
        """
        digest = str(self.resolve(reference))
        with self.database.session() as session:
            return queries.lineage(session, digest, up=up, down=down)

    def alias(self, name: str, alias: str, revision: str, *, expected: int | None = None) -> AliasMove:
        """Point an alias at a revision.

        Args:
            name: The adapter.
            alias: The alias.
            revision: A number, or another alias of the same adapter.
            expected: The revision that the alias must point to now (0: none); otherwise nothing is changed.

        Raises:
            RegistryNotFoundError: There is no such adapter or revision.
            RegistryConflictError: The alias does not point to ``expected``.
        """
        target = Reference.parse(f"{check_name(name)}@{revision}")
        with self.database.session(writes=True) as session:
            return commands.move_alias(session, name, check_alias(alias), target, expected=expected)
