"""Taking blobs from a second store: verified before they come here; what was damaged is put aside, never deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session

from ual_registry.digest import Digest
from ual_registry.errors import StorageError
from ual_registry.registry.audit import now, write_log
from ual_registry.registry.blobs import BlobStore, StagedBlob
from ual_registry.registry.commands import add_blobs
from ual_registry.registry.files import make_folder
from ual_registry.registry.maintenance import live_digests
from ual_registry.registry.session import Database
from ual_registry.registry.tables import BlobRow
from ual_registry.registry.transaction import transact
from ual_registry.storage import file_size, is_file, is_folder

__all__ = ["BYTES_ARE_WRONG", "Repair", "SecondStore", "repair"]

BYTES_ARE_WRONG = frozenset({"missing", "damaged", "wrong-size"})
"""Kinds of faults that a whole copy mends."""


@dataclass(frozen=True, slots=True)
class SecondStore:
    """Another place where blobs may be.

    Attributes:
        folders: The folders ``sha256`` in which they are looked for.
    """

    folders: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path, own: Path) -> SecondStore:
        """Find the blobs of a store, of a registry's home, or of an exported registry.

        Args:
            root: The folder.
            own: The store that is to be mended.

        Raises:
            StorageError: It is none of them, is the store itself, or cannot be looked at.
        """
        folders = tuple(folder for folder in (root / "sha256", root / "blobs" / "sha256") if is_folder(folder))
        if not folders:
            raise StorageError(
                f"{root}: holds no blobs",
                code="no-store",
                context={"path": str(root)},
                hint="give a blob folder, the home of a registry, or a folder that 'ual export' wrote",
            )
        if any(folder.resolve().is_relative_to(own.resolve()) for folder in folders):
            raise StorageError(
                f"{root}: is the store that is to be mended",
                code="no-store",
                context={"path": str(root)},
                hint="give another one, such as a folder that 'ual export' wrote",
            )
        return cls(folders)

    def places(self, digest: Digest) -> Iterator[Path]:
        """Yield where the blob may be."""
        for folder in self.folders:
            yield from (folder / digest.hex[:2] / digest.hex, folder / digest.hex)


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one blob.

    Attributes:
        is_whole: Whether it is whole now.
        unread: Why copies of the second store could not be read.
    """

    is_whole: bool
    unread: tuple[str, ...] = ()


def repair(
    database: Database, blobs: BlobStore, second: SecondStore, digest: Digest, size_bytes: int, *, kind: str
) -> Repair:
    """Mend one blob or its row. A copy that cannot be read mends nothing; the next one is tried.

    Args:
        database: The database.
        blobs: The store.
        second: Where a whole copy may be.
        digest: The blob.
        size_bytes: Its size.
        kind: What is wrong with it.

    Raises:
        StorageError: The store cannot be written.
    """
    if kind == "unlisted":
        return Repair(transact(database, lambda session: _note(session, digest, size_bytes, source=None, aside=None)))
    unread: list[str] = []
    for source in second.places(digest) if kind in BYTES_ARE_WRONG else ():
        try:
            if _is_taken(database, blobs, source, digest, size_bytes):
                return Repair(is_whole=True)
        except StorageError as error:
            if error.context.get("path") != str(source):  # then it is the store to be mended that refuses
                raise
            unread.append(error.message)
    return Repair(is_whole=False, unread=tuple(unread))


def _is_taken(database: Database, blobs: BlobStore, source: Path, digest: Digest, size_bytes: int) -> bool:
    """Take a blob from a place of the second store, where it is there and whole.

    Raises:
        StorageError: The place cannot be read, or the store cannot be written.
    """
    if not is_file(source) or file_size(source) != size_bytes:
        return False
    with blobs.stage(source) as staged:
        return staged.digest == digest and _replace(database, blobs, staged, source)


def _replace(database: Database, blobs: BlobStore, staged: StagedBlob, source: Path) -> bool:
    aside = _put_aside(blobs, staged.digest)
    with staged.keep():
        size = staged.size_bytes
        return transact(database, lambda session: _note(session, staged.digest, size, source=source, aside=aside))


def _put_aside(blobs: BlobStore, digest: Digest) -> Path | None:
    """Give what stands in a blob's place a second name in quarantine; its place is never empty meanwhile."""
    place = blobs.place(digest)
    if not os.path.lexists(place):
        return None
    make_folder(blobs.quarantine)
    number = sum(1 for path in blobs.quarantine.glob(f"{digest.hex}.*"))
    while os.path.lexists(aside := blobs.quarantine / f"{digest.hex}.{number}"):
        number += 1
    try:
        if place.is_file() and not place.is_symlink():
            aside.hardlink_to(place)
        else:
            place.rename(aside)
    except OSError as error:
        raise StorageError.of("write", aside, error) from error
    return aside


def _note(session: Session, digest: Digest, size_bytes: int, *, source: Path | None, aside: Path | None) -> bool:
    add_blobs(session, {str(digest): size_bytes})
    if not live_digests(session, [digest]):
        return False
    if source is not None:
        session.execute(update(BlobRow).where(BlobRow.digest == str(digest)).values(verified_at=now()))
    taken = {"source": str(source)} if source else {}
    put = {"quarantine": aside.name} if aside else {}
    write_log(session, "fsck", "", digest=str(digest), **taken, **put)
    return True
