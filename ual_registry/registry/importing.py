"""Taking in an exported registry: everything is checked, conflicts are said first, and nothing that is here is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from ual_registry.air.read import open_legal, refuse_first
from ual_registry.air.validate import Inspection, scanned_problems
from ual_registry.errors import FormatError, RegistryConflictError, RegistryError, UALError
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.describe import Description, describe
from ual_registry.registry.exchange import DOCUMENT_TYPE
from ual_registry.registry.import_document import AdapterPart, ArtifactPart, Contents, parse_contents
from ual_registry.registry.import_plan import plan_adapter
from ual_registry.registry.import_rows import (
    Written,
    write_adapters,
    write_artifacts,
    write_history,
    write_tombstone,
)
from ual_registry.registry.layout import MAX_DOCUMENT_BYTES, Descriptor, Layout, other_bytes
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.session import Database
from ual_registry.registry.tables import ArtifactRow, BlobRow
from ual_registry.registry.transaction import transact
from ual_registry.storage import is_file

__all__ = ["ON_CONFLICT", "ImportReport", "ImportedAdapter", "import_registry"]

ON_CONFLICT = ("fail", "skip", "renumber")
"""What may be done where a name is here with other revisions under the same numbers."""

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAdapter:
    """What became of an adapter.

    Attributes:
        name: Its name.
        outcome: ``new``, ``extended``, ``unchanged`` or ``skipped``.
        added: The numbers here of the revisions that were added.
        renumbered: Each number there and the other one that it has here.
        conflicts: Why numbers could not be kept.
        kept: What stayed as it was here, although it is otherwise there.
    """

    name: str
    outcome: str
    added: tuple[int, ...] = ()
    renumbered: tuple[tuple[int, int], ...] = ()
    conflicts: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was imported.

    Attributes:
        artifacts: How many artifacts were looked at, tombstones among them.
        new_artifacts: How many of them are new here.
        adapters: What became of each adapter, by name.
    """

    artifacts: int
    new_artifacts: int
    adapters: tuple[ImportedAdapter, ...]


def import_registry(
    database: Database, blobs: BlobStore, source: Path, *, on_conflict: str = "fail", progress: Progress = silent
) -> ImportReport:
    """Take in what ``export_registry`` wrote; the same again changes nothing.

    Args:
        database: The database.
        blobs: The store.
        source: The folder.
        on_conflict: One of ``ON_CONFLICT``: refuse everything, leave out that adapter, or give new numbers.
        progress: Is told how far it is.

    Raises:
        FormatError: The folder is not what it must be, or a blob is not legal AIR.
        RegistryConflictError: A name is here with other revisions, and ``on_conflict`` is ``fail``.
        RegistryError: ``on_conflict`` is none.
        StorageError: A file cannot be read, or the store cannot be written.
    """
    if on_conflict not in ON_CONFLICT:
        raise RegistryError(
            f"on_conflict {on_conflict!r}: expected one of {', '.join(ON_CONFLICT)}", code="on-conflict"
        )
    layout = Layout(source)
    work = _Import(database, blobs, layout, _contents(layout), progress)
    skipped = work.conflicts() if on_conflict != "renumber" else {}
    if skipped and on_conflict == "fail":
        raise _refusal([why for conflicts in skipped.values() for why in conflicts])
    new = work.artifacts(leave_out=set(skipped))
    adapters = tuple(work.adapters(skipped, on_conflict))
    return ImportReport(artifacts=len(work.contents.artifacts), new_artifacts=new, adapters=adapters)


def _refusal(conflicts: Sequence[str]) -> RegistryConflictError:
    more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
    return RegistryConflictError(
        f"{conflicts[0]}{more}; nothing was imported",
        context={"conflicts": list(conflicts[:100])},
        hint="--on-conflict renumber gives new numbers, --on-conflict skip leaves such adapters out",
    )


def _late_refusal(name: str, conflicts: Sequence[str]) -> RegistryConflictError:
    return RegistryConflictError(
        f"{conflicts[0]}, since a moment ago; adapters before {name} were imported, it and those after it were not",
        context={"conflicts": list(conflicts[:100])},
        hint="run the command again with --on-conflict renumber or skip: what is imported already stays as it is",
    )


def _contents(layout: Layout) -> Contents:
    """Check every manifest of the layout and return what its registry's document says."""
    documents: list[Descriptor] = []
    files: dict[str, int] = {}
    for manifest, layers in layout.artifacts():
        if manifest.artifact_type == DOCUMENT_TYPE:
            documents += layers
        files.update({str(layer.digest): layer.size_bytes for layer in layers})
    if len(documents) != 1 or documents[0].media_type != DOCUMENT_TYPE:
        raise FormatError(
            f"{layout.root}: has {len(documents)} documents of a registry, expected one",
            code="layout",
            context={"path": str(layout.root)},
            hint="give a folder that 'ual export' wrote",
        )
    contents = parse_contents(layout.read(documents[0], limit_bytes=MAX_DOCUMENT_BYTES))
    for digest, part in contents.artifacts.items():
        if part.deleted_at is None and files.get(digest) != part.size_bytes:
            raise FormatError(
                f"{layout.root}: no manifest refers to {digest} with {part.size_bytes} bytes, as the registry does",
                code="layout",
                context={"digest": digest},
            )
    return contents


class _Import:
    """One run of ``import``."""

    def __init__(
        self, database: Database, blobs: BlobStore, layout: Layout, contents: Contents, progress: Progress
    ) -> None:
        self.contents = contents
        self._database = database
        self._blobs = blobs
        self._layout = layout
        self._progress = progress

    def conflicts(self) -> dict[str, tuple[str, ...]]:
        """Return the adapters whose numbers cannot be kept, and why."""
        with self._database.session() as session:
            plans = {name: plan_adapter(session, part) for name, part in self.contents.adapters.items()}
        return {name: plan.conflicts for name, plan in plans.items() if plan.conflicts}

    def artifacts(self, *, leave_out: set[str]) -> int:
        """Take in every artifact but those that only adapters of ``leave_out`` hold; return how many are new."""
        parts = list(self._wanted(leave_out))
        new = 0
        for start in range(0, len(parts), _BATCH):
            self._progress("artifacts", start, len(parts))
            new += self._batch(parts[start : start + _BATCH])
        return new

    def _wanted(self, leave_out: set[str]) -> Iterator[ArtifactPart]:
        adapters = self.contents.adapters.values()
        left = {revision.digest for part in adapters if part.name in leave_out for revision in part.revisions}
        used = {revision.digest for part in adapters if part.name not in leave_out for revision in part.revisions}
        yield from (part for digest, part in self.contents.artifacts.items() if digest in used or digest not in left)

    def _batch(self, parts: Sequence[ArtifactPart]) -> int:
        """Put bytes into the store, then write their rows in one transaction, as adding does."""
        known = self._known(parts)
        new = [part for part in parts if str(part.digest) not in known]
        for part in parts:
            if part.deleted_at is None and str(part.digest) in known:
                self._layout.check(part.digest, part.size_bytes)
        with ExitStack() as holds:
            stored = [(part, self._store(part, holds)) for part in new if part.deleted_at is None]
            gone = [part for part in new if part.deleted_at is not None]
            transact(self._database, lambda session: self._write(session, stored, gone, parts))
        return len(new)

    def _known(self, parts: Sequence[ArtifactPart]) -> set[str]:
        """Return the digests of what is here already: with its bytes, or as a tombstone where it is one there, too."""
        digests = [str(part.digest) for part in parts]
        statement = select(ArtifactRow.digest).where(ArtifactRow.digest.in_(digests))
        alive = ArtifactRow.deleted_at.is_(None)
        with self._database.session() as session:
            rows = set(session.scalars(statement))
            living = set(session.scalars(statement.where(alive)))
            listed = set(session.scalars(select(BlobRow.digest).where(BlobRow.digest.in_(digests))))
        return {
            digest
            for part in parts
            if (digest := str(part.digest)) in (rows if part.deleted_at is not None else living & listed)
            and (part.deleted_at is not None or self._is_whole(part))
        }

    def _is_whole(self, part: ArtifactPart) -> bool:
        place = self._blobs.place(part.digest)
        return is_file(place) and place.stat().st_size == part.size_bytes

    def _store(self, part: ArtifactPart, holds: ExitStack) -> Description:
        path = self._layout.find(part.digest, part.size_bytes)
        found = self._open(path, part)
        manifest = found.manifest
        assert manifest is not None  # what ``open_legal`` promises
        try:
            with self._blobs.take_in(found) as staged:
                if staged.digest != part.digest:
                    raise other_bytes(path, staged.digest, part.digest)
                assert staged.scan is not None  # what ``take_in`` promises
                refuse_first(scanned_problems(manifest, staged.scan), path)
                size = staged.size_bytes
                description = describe(manifest, found.tensors(), digest=str(staged.digest), size_bytes=size)
                holds.enter_context(staged.keep())
                return description
        finally:
            found.source.close()

    def _open(self, path: Path, part: ArtifactPart) -> Inspection:
        """Open a file, and tell of a damaged one by its digest before anything it says."""
        try:
            return open_legal(path)
        except UALError:
            self._layout.check(part.digest, part.size_bytes)
            raise

    def _write(
        self,
        session: Session,
        stored: Sequence[tuple[ArtifactPart, Description]],
        gone: Sequence[ArtifactPart],
        parts: Sequence[ArtifactPart],
    ) -> None:
        if stored:
            write_artifacts(session, stored)
        for part, _ in stored:
            self._blobs.find(part.digest)  # nobody can delete it from here on, and nobody has
        for part in gone:
            write_tombstone(session, part)
        for part in parts:
            write_history(session, part)

    def adapters(self, skipped: dict[str, tuple[str, ...]], on_conflict: str) -> Iterator[ImportedAdapter]:
        """Write every adapter but those that are skipped, a batch of them in one transaction.

        Raises:
            RegistryConflictError: Somebody added to one since it was looked at, and ``on_conflict`` is ``fail``.
        """
        parts = [part for _, part in sorted(self.contents.adapters.items())]
        for start in range(0, len(parts), _BATCH):
            self._progress("adapters", start, len(parts))
            batch = parts[start : start + _BATCH]
            wanted = [part for part in batch if part.name not in skipped]
            written = self._adapters(wanted, on_conflict) if wanted else {}
            for part in batch:
                if part.name in skipped:
                    yield ImportedAdapter(name=part.name, outcome="skipped", conflicts=skipped[part.name])
                else:
                    yield _imported(written[part.name], on_conflict)

    def _adapters(self, parts: Sequence[AdapterPart], on_conflict: str) -> dict[str, Written]:
        written = transact(self._database, lambda session: write_adapters(session, parts, on_conflict=on_conflict))
        last = written[-1]
        if last.plan.conflicts and on_conflict == "fail":
            raise _late_refusal(last.part.name, last.plan.conflicts)
        return {own.part.name: own for own in written}


def _imported(written: Written, on_conflict: str) -> ImportedAdapter:
    plan, name = written.plan, written.part.name
    if plan.conflicts and on_conflict == "skip":  # somebody added to it since it was looked at
        return ImportedAdapter(name=name, outcome="skipped", conflicts=plan.conflicts)
    return ImportedAdapter(
        name=name,
        outcome="new" if plan.is_new else "extended" if plan.added else "unchanged",
        added=tuple(plan.numbers[number] for number in plan.added),
        renumbered=tuple((old, new) for old, new in sorted(plan.numbers.items()) if old != new),
        conflicts=plan.conflicts,
        kept=written.kept,
    )
