"""Adding a file: its bytes into the store, then everything about them in one transaction.

The order is copy, check, flush, rename, rows. A crash leaves at worst a blob without a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from ual_registry.ahead import done_ahead
from ual_registry.air.model import Manifest
from ual_registry.air.read import open_legal, refuse_first
from ual_registry.air.router import RouterManifest
from ual_registry.air.validate import scanned_problems
from ual_registry.digest import Digest
from ual_registry.errors import RegistryError, UALError
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.commands import add_artifacts, add_blobs
from ual_registry.registry.describe import Description, describe
from ual_registry.registry.files import Hold, flush_folders
from ual_registry.registry.intake import Intake
from ual_registry.registry.links import check_place, record_hub_link
from ual_registry.registry.marks import change_tags, edit_adapter, move_alias
from ual_registry.registry.records import AddOutcome, AddResult, HubPlace
from ual_registry.registry.reference import Reference, check_alias, check_list, check_name, check_tag, check_text
from ual_registry.registry.revisions import Added, Wanted, add_revisions
from ual_registry.registry.session import Database
from ual_registry.registry.transaction import transact

__all__ = ["AddOrder", "add_file", "add_files"]

_BATCH_FILES = 64
_BATCH_BYTES = 1 << 26
"""How much becomes visible at once where many files are added: a commit waits for the disk as long as a small file."""

_FILES_AHEAD = 16
_THREADS = 3
"""Of which one or two wait for the disk; a fourth takes the interpreter from who writes rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOrder:
    """What a file is added as.

    Attributes:
        name: The adapter, made on first use; ``None`` takes the name that the manifest gives.
        aliases: Aliases to point at the revision.
        tags: Tags to set on the revision; the value is empty where there is none.
        owner: Who answers for the adapter; ``None`` leaves it as it is.
        description: What the adapter is for; ``None`` leaves it as it is.
        pulled_from: Where on the Hub the file came from, where it did.
        is_moved: Whether the file lies in a ``private_folder`` of the store and may be moved instead of copied.
        intake: What was found in a file that is moved, where all of it was looked at before.
    """

    name: str | None
    aliases: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    description: str | None = None
    pulled_from: HubPlace | None = None
    is_moved: bool = False
    intake: Intake | None = None

    def check(self) -> None:
        """Check every name and text.

        Raises:
            RegistryError: One is not allowed.
        """
        if self.name is not None:
            check_name(self.name)
        for alias in check_list("aliases", self.aliases):
            check_alias(alias)
        for key, value in self.tags.items():
            check_tag(key, value)
        check_text("owner", self.owner)
        check_text("description", self.description)
        if self.pulled_from is not None:
            check_place(self.pulled_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A file whose bytes have their place in the store, and no row yet."""

    name: str
    description: Description
    order: AddOrder
    hold: Hold

    @property
    def size_bytes(self) -> int:
        return int(self.description.artifact["size_bytes"])


def add_file(database: Database, blobs: BlobStore, path: Path, order: AddOrder) -> AddResult:
    """Add a file as the next revision of an adapter; see ``Registry.add``."""
    stored = _store(blobs, path, order, is_alone=True)
    with stored.hold:
        flush_folders([stored.hold])
        return transact(database, lambda session: _write_rows(session, blobs, [stored]))[0]


def add_files(database: Database, blobs: BlobStore, jobs: Iterable[tuple[Path, AddOrder]]) -> Iterator[AddOutcome]:
    """Add many files, a batch in each transaction; one that fails does not stop the others.

    A few threads copy and check files while the rows of earlier ones are written.

    Args:
        database: The database.
        blobs: The store.
        jobs: The files, and what they are added as.

    Yields:
        What became of each file, in their order, once it is there to stay.
    """
    batch: list[tuple[Path, _Stored | UALError]] = []
    size = 0
    for path, stored in _store_ahead(blobs, jobs):
        batch.append((path, stored))
        size += stored.size_bytes if isinstance(stored, _Stored) else 0
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield from _write_batch(database, blobs, batch)
            batch, size = [], 0
    yield from _write_batch(database, blobs, batch)


def _store_ahead(blobs: BlobStore, jobs: Iterable[tuple[Path, AddOrder]]) -> Iterator[tuple[Path, _Stored | UALError]]:
    """Put files into the store, a few ahead of what was asked for, and yield them in their order."""
    stored = done_ahead(lambda job: _try_to_store(blobs, *job), jobs, threads=_THREADS, ahead=_FILES_AHEAD)
    yield from ((path, result) for (path, _), result in stored)


def _try_to_store(blobs: BlobStore, path: Path, order: AddOrder) -> _Stored | UALError:
    try:
        return _store(blobs, path, order, is_alone=False)
    except UALError as error:
        return error


def _store(blobs: BlobStore, path: Path, order: AddOrder, *, is_alone: bool) -> _Stored:
    """Copy a file into the store, check it in full in the same pass, and give it its place, which is not flushed."""
    order.check()
    found = open_legal(path)  # other files are refused without copying them
    manifest = found.manifest
    assert manifest is not None  # what ``open_legal`` promises
    try:
        name = order.name or _own_name(path, manifest)
        if order.is_moved:
            entering = blobs.adopt(found, path, intake=order.intake, is_alone=is_alone)
        else:
            entering = blobs.take_in(found, is_alone=is_alone)
        with entering as staged:
            assert staged.scan is not None  # what ``take_in`` promises
            refuse_first(scanned_problems(manifest, staged.scan), path)
            description = describe(manifest, found.tensors(), digest=str(staged.digest), size_bytes=staged.size_bytes)
            return _Stored(name=name, description=description, order=order, hold=staged.keep(flush=False))
    finally:
        found.source.close()


def _own_name(path: Path, manifest: Manifest | RouterManifest | None) -> str:
    if manifest is None or manifest.name is None:
        raise RegistryError(
            f"{path}: its manifest gives it no name", code="name", context={"path": str(path)}, hint="pass --name NAME"
        )
    return check_name(manifest.name)


def _write_rows(session: Session, blobs: BlobStore, files: Sequence[_Stored]) -> list[AddResult]:
    """Write the rows of files, all of them by the same few statements."""
    if not files:
        return []
    add_blobs(session, {own.description.digest: own.size_bytes for own in files})
    for own in files:
        blobs.find(Digest.parse(own.description.digest))  # nobody can delete it from here on, and nobody has
    ids = add_artifacts(session, (own.description for own in files))
    wanted = [
        Wanted(
            name=own.name,
            artifact_id=ids[own.description.digest],
            description=own.description,
            tags=own.order.tags,
        )
        for own in files
    ]
    added = add_revisions(session, wanted)
    return [_mark(session, own, found) for own, found in zip(files, added, strict=True)]


def _mark(session: Session, stored: _Stored, added: Added) -> AddResult:
    """Write what was ordered beside the revision."""
    description, order, name = stored.description, stored.order, stored.name
    target = Reference(name=name, number=added.number)
    if order.owner is not None or order.description is not None:
        edit_adapter(session, name, owner=order.owner, description=order.description)
    if order.tags and not added.is_new:
        change_tags(session, target, order.tags)
    if order.pulled_from is not None:
        record_hub_link(session, description.digest, order.pulled_from, direction="pull", name=name)
    moves = tuple(move_alias(session, name, alias, target) for alias in order.aliases)
    return AddResult(
        name=name,
        number=added.number,
        digest=description.digest,
        is_new=added.is_new,
        moves=moves,
        is_yanked=added.is_yanked,
    )


def _write_batch(
    database: Database, blobs: BlobStore, batch: Sequence[tuple[Path, _Stored | UALError]]
) -> Iterator[AddOutcome]:
    """Write the rows of a batch in one transaction, or, where one of them cannot be, each in its own."""
    good = [stored for _, stored in batch if isinstance(stored, _Stored)]
    results: list[AddResult | UALError]
    try:
        flush_folders(stored.hold for stored in good)
        results = list(transact(database, lambda session: _write_rows(session, blobs, good)))
    except UALError:
        results = [_write_alone(database, blobs, stored) for stored in good]
    finally:
        for stored in good:
            stored.hold.release()
    written = iter(results)
    for path, outcome in batch:
        result = next(written) if isinstance(outcome, _Stored) else outcome
        if isinstance(result, UALError):
            yield AddOutcome(path=str(path), error=result)
        else:
            yield AddOutcome(path=str(path), result=result)


def _write_alone(database: Database, blobs: BlobStore, stored: _Stored) -> AddResult | UALError:
    try:
        flush_folders([stored.hold])
        return transact(database, lambda session: _write_rows(session, blobs, [stored]))[0]
    except UALError as error:
        return error
