"""What a registry needs now and then: garbage collection, checking, export and import."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.grace import DEFAULT_GRACE
from ual_registry.registry.pages import search_page
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.query import parse_query
from ual_registry.registry.session import Database
from ual_registry.registry.views import Page, RevisionRecord, on_all_pages

if TYPE_CHECKING:
    from ual_registry.registry.exchange import ExportReport
    from ual_registry.registry.fsck import FsckReport
    from ual_registry.registry.importing import ImportReport
    from ual_registry.registry.maintenance import GcReport

__all__ = ["RegistryCare"]

_PAGE = 1000


class RegistryCare:
    """The methods of a registry that look after it; what does the work is loaded when it is asked for."""

    database: Database
    blobs: BlobStore

    def gc(
        self,
        *,
        grace: datetime.timedelta = DEFAULT_GRACE,
        apply: bool = False,
        yanked: bool = False,
        progress: Progress = silent,
    ) -> GcReport:
        """Find bytes that nothing refers to, and delete them where asked to.

        Args:
            grace: How old they must be.
            apply: Whether to delete them.
            yanked: Whether to delete the bytes of artifacts whose revisions were all yanked longer than the grace ago
                and have no alias, too; a tombstone of each stays.
            progress: Is told how far it is.

        Raises:
            RegistryUnavailableError: The database refuses.
            StorageError: The store refuses.
        """
        from ual_registry.registry.maintenance import collect  # noqa: PLC0415  # rarely needed

        return collect(self.database, self.blobs, grace=grace, apply=apply, yanked=yanked, progress=progress)

    def fsck(
        self,
        *,
        quick: bool = False,
        since: datetime.timedelta | None = None,
        deep: bool = False,
        repair_from: str | Path | None = None,
        progress: Progress = silent,
    ) -> FsckReport:
        """Check every blob against its digest and every row against what it refers to.

        Args:
            quick: Whether to compare sizes alone.
            since: Blobs that were re-hashed within this time are not re-hashed.
            deep: Whether to compare the rows of every artifact with the manifest in its bytes.
            repair_from: A second store, the home of another registry, or an exported registry; missing and damaged
                blobs are taken from there after they were verified.
            progress: Is told how far it is.

        Raises:
            RegistryUnavailableError: The database refuses.
            StorageError: The store refuses, or ``repair_from`` holds no blobs.
        """
        from ual_registry.registry.fsck import FsckOrder, check  # noqa: PLC0415  # rarely needed

        second = None if repair_from is None else Path(repair_from)
        order = FsckOrder(quick=quick, since=since, deep=deep, repair_from=second)
        return check(self.database, self.blobs, order, progress=progress)

    def export(self, target: str | Path, *, query: str | None = None, progress: Progress = silent) -> ExportReport:
        """Write the registry, or the hits of a query, to a folder in the shape of an OCI image layout.

        Args:
            target: The folder; an export that stands there is replaced when the new one is complete.
            query: The search language; ``None`` exports everything, yanked revisions too.
            progress: Is told how far it is.

        Raises:
            QueryError: The query is not well formed.
            DigestMismatchError: A blob was damaged; nothing is left at ``target``.
            RegistryError: A blob is missing.
            StorageError: Something else than an export stands at ``target``, or the file system refuses.
        """
        from ual_registry.registry.exchange import export_registry  # noqa: PLC0415  # rarely needed

        chosen = None if query is None else self._hits(query)
        return export_registry(self.database, self.blobs, Path(target), revisions=chosen, progress=progress)

    def _hits(self, query: str) -> list[tuple[str, int]]:
        parsed = parse_query(query)

        def page_after(after: str | None) -> Page[RevisionRecord]:
            with self.database.reading() as connection:
                return search_page(connection, parsed, limit=_PAGE, after=after, text=query)

        return [(record.name, record.number) for record in on_all_pages(page_after)]

    def import_(self, source: str | Path, *, on_conflict: str = "fail", progress: Progress = silent) -> ImportReport:
        """Take in what ``export`` wrote; every blob is checked, and the same again changes nothing.

        Args:
            source: The folder.
            on_conflict: What happens where a name is here with other revisions: ``fail`` writes nothing at all,
                ``skip`` leaves that adapter out, ``renumber`` gives its revisions the next numbers.
            progress: Is told how far it is.

        Raises:
            FormatError: The folder is not what it must be, or a blob is not legal AIR.
            RegistryConflictError: A name is here with other revisions, and ``on_conflict`` is ``fail``.
            StorageError: A file cannot be read, or the store cannot be written.
        """
        from ual_registry.registry.importing import import_registry  # noqa: PLC0415  # rarely needed

        return import_registry(self.database, self.blobs, Path(source), on_conflict=on_conflict, progress=progress)
