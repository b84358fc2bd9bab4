"""The blob store: a folder in which bytes are named by their digest and by nothing else.

No path from a file or a user is ever part of a blob's place. A blob is complete when it is there: it is written under
a temporary name, flushed to the disk, and renamed. From its first byte until its row is there it is locked, so that
who deletes what nobody refers to knows that somebody is about to (ADR-0012).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ual_registry.air.scan import TensorScan
from ual_registry.air.validate import Inspection
from ual_registry.digest import CHUNK_BYTES, Digest
from ual_registry.errors import DigestMismatchError, RegistryNotFoundError, StorageError
from ual_registry.registry.files import (
    Hold,
    entries,
    flush_folders,
    make_for_blob,
    new_file,
    new_folder,
    own_file,
    sweep_folders,
)
from ual_registry.registry.flushing import EarlyFlush
from ual_registry.registry.intake import Intake, take_in
from ual_registry.storage import atomic_file, file_size, is_file

__all__ = ["BlobStore", "StagedBlob"]


_HEX = re.compile(r"[0-9a-f]{64}")


class StagedBlob:
    """Bytes copied into the store under a temporary name; ``keep`` gives them their place.

    Attributes:
        path: The temporary name.
        digest: Digest of the bytes.
        size_bytes: Their number.
        scan: What was found in the tensors, where they were looked at.
    """

    def __init__(self, path: Path, stream: BinaryIO, place_of: Callable[[Digest], Path]) -> None:
        self.path = path
        self.digest = Digest.of_bytes(b"")
        self.size_bytes = 0
        self.scan: TensorScan | None = None
        self._place_of = place_of
        self._stream = stream

    def note(self, intake: Intake) -> None:
        """Note what was found in the bytes."""
        self.digest, self.size_bytes, self.scan = intake.digest, intake.size_bytes, intake.scan

    def keep(self, *, flush: bool = True) -> Hold:
        """Move the bytes to the place that their digest names, over what is there already.

        Args:
            flush: Whether to wait until the place is on the disk; otherwise ``flush_folders`` must, before their row
                is committed.

        Returns:
            What keeps them there; release it when their row is committed.

        Raises:
            StorageError: The file system refuses.
        """
        place = self._place_of(self.digest)
        try:
            changed = make_for_blob(place.parent)
            self.path.replace(place)
            hold = Hold(os.fdopen(os.dup(self._stream.fileno()), "rb"), changed=changed)
        except OSError as error:
            raise StorageError.of("write", place, error) from error
        if flush:
            flush_folders([hold])
        return hold


class BlobStore:
    """Blobs under one root folder.

    Args:
        root: The folder; made on first use.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def staging(self) -> Path:
        """Where bytes are before they have their place."""
        return self.root / "staging"

    @property
    def quarantine(self) -> Path:
        """Where damaged bytes are put aside."""
        return self.root / "quarantine"

    def place(self, digest: Digest) -> Path:
        """Return where a blob stands, there or not."""
        return self.root / "sha256" / digest.hex[:2] / digest.hex

    def walk(self) -> Iterator[Digest]:
        """Yield every blob that is here, in order; files with other names are left out."""
        for folder in entries(self.root / "sha256"):
            for path in entries(folder):
                if _HEX.fullmatch(path.name) and path.name.startswith(folder.name) and len(folder.name) == 2:
                    yield Digest(path.name)

    def walk_staging(self) -> Iterator[Path]:
        """Yield what stands in staging, in order."""
        yield from entries(self.staging)

    def strangers(self) -> Iterator[Path]:
        """Yield what stands where only blobs may stand, in order."""
        for folder in entries(self.root / "sha256"):
            inside = entries(folder) if len(folder.name) == 2 and folder.is_dir() else [folder]
            for path in inside:
                is_blob = _HEX.fullmatch(path.name) and path.name.startswith(folder.name)
                if not is_blob or path.is_symlink() or not path.is_file():
                    yield path

    @contextlib.contextmanager
    def private_folder(self) -> Iterator[Path]:
        """Make a folder in staging for what is being fetched; it is gone after the block with everything in it.

        Those that interrupted commands left are deleted first.

        Raises:
            StorageError: The store cannot be written.
        """
        with new_folder(self.staging) as folder:
            sweep_folders(folder)
            yield folder

    @contextlib.contextmanager
    def stage(self, source: Path) -> Iterator[StagedBlob]:
        """Copy a file into the store under a temporary name; it is gone after the block unless it was kept.

        Raises:
            StorageError: The file cannot be read, or the store cannot be written.
        """
        with self._staged() as staged, _reading(source) as chunks:
            state = hashlib.sha256()

            def copy(out: BinaryIO) -> None:
                for chunk in chunks:
                    state.update(chunk)
                    staged.size_bytes += out.write(chunk)

            self._fill(staged, copy)
            staged.digest = Digest(state.hexdigest())
            yield staged

    @contextlib.contextmanager
    def take_in(self, found: Inspection, *, is_alone: bool = True) -> Iterator[StagedBlob]:
        """Copy a legal file into the store as ``stage`` does, and look at its tensors in the same pass.

        Args:
            found: The open file, its header checked.
            is_alone: Whether a large file may take a second thread.

        Raises:
            StorageError: The file cannot be read, or changed meanwhile, or the store cannot be written.
        """
        with self._staged() as staged:
            self._fill(staged, lambda out: staged.note(take_in(found, EarlyFlush(out), is_alone=is_alone)))
            yield staged

    @contextlib.contextmanager
    def adopt(
        self, found: Inspection, path: Path, *, intake: Intake | None = None, is_alone: bool = True
    ) -> Iterator[StagedBlob]:
        """Take a legal file of a ``private_folder`` as it lies there, without a copy; it is gone after the block.

        Args:
            found: The open file, its header checked.
            path: The same file, which nobody else writes to.
            intake: What was found in it, where all of it was looked at before, at this place.
            is_alone: Whether a large file may take a second thread.

        Raises:
            StorageError: The file cannot be read or flushed, or changed meanwhile.
        """
        with own_file(path) as (place, stream):
            staged = StagedBlob(place, stream, self.place)
            self._fill(staged, lambda _: staged.note(intake or take_in(found, None, is_alone=is_alone)))
            yield staged

    @contextlib.contextmanager
    def _staged(self) -> Iterator[StagedBlob]:
        with new_file(self.staging) as (path, stream):
            yield StagedBlob(path, stream, self.place)

    @staticmethod
    def _fill(staged: StagedBlob, copy: Callable[[BinaryIO], None]) -> None:
        """Write the bytes and wait until they are on the disk."""
        stream = staged._stream  # noqa: SLF001  # its owner
        try:
            copy(stream)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError.of("write", staged.path, error) from error

    def find(self, digest: Digest) -> Path:
        """Return the file of a blob.

        Raises:
            RegistryNotFoundError: It is not here.
            StorageError: The store cannot be looked at.
        """
        place = self.place(digest)
        if not is_file(place):
            raise RegistryNotFoundError(
                f"{digest}: the database knows this artifact, the blob store at {self.root} does not hold it",
                context={"digest": str(digest)},
                hint="'ual fsck --repair-from STORE' takes it from a copy; adding the file again also helps",
            )
        return place

    def export(self, digest: Digest, target: Path, *, size_bytes: int | None = None, durable: bool = False) -> None:
        """Copy a blob out, and compare what was copied with its size and its digest.

        Args:
            digest: The blob.
            target: The file to write; what is there is replaced.
            size_bytes: Its size as the database knows it.
            durable: Whether to wait until the bytes are on the disk.

        Raises:
            DigestMismatchError: The stored bytes were changed; nothing is left at ``target``.
            StorageError: The file system refuses.
        """
        source = self.find(digest)
        state = hashlib.sha256()
        with atomic_file(target, durable=durable) as out, _reading(source) as chunks:
            _check_size(source, digest, size_bytes)
            for chunk in chunks:
                state.update(chunk)
                out.write(chunk)
            if state.hexdigest() != digest.hex:
                raise _damaged(source, digest, f"sha256:{state.hexdigest()}, expected {digest}")


def _check_size(source: Path, digest: Digest, size_bytes: int | None) -> None:
    """Refuse a blob of another size before any of it is read."""
    found = file_size(source)
    if size_bytes is not None and found != size_bytes:
        raise _damaged(source, digest, f"{found} bytes, expected {size_bytes}")


def _damaged(source: Path, digest: Digest, difference: str) -> DigestMismatchError:
    return DigestMismatchError(
        f"{source}: stored bytes have {difference}",
        context={"digest": str(digest)},
        hint="the blob was damaged on the disk; 'ual fsck --repair-from STORE' takes it from a copy, "
        "adding the file again also helps",
    )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise StorageError.of("read", path, error) from error
    with stream:
        yield _chunks(path, stream)


def _chunks(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """Yield what a file holds; what the system refuses is told of this file, not of the one that is written."""
    try:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise StorageError.of("read", path, error) from error
