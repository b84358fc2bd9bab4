"""The blob store: a folder in which bytes are named by their digest and by nothing else.

No path from a file or a user is ever part of a blob's place. A blob is complete when it is there: it is written under
a temporary name, flushed to the disk, and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ual_registry.digest import CHUNK_BYTES, Digest
from ual_registry.errors import DigestMismatchError, RegistryNotFoundError, StorageError
from ual_registry.storage import atomic_file

__all__ = ["BlobStore", "StagedBlob"]


class StagedBlob:
    """Bytes copied into the store under a temporary name; ``keep`` gives them their place."""

    def __init__(self, path: Path, place: Path, digest: Digest, size_bytes: int) -> None:
        self.path = path
        self.digest = digest
        self.size_bytes = size_bytes
        self._place = place

    def keep(self) -> None:
        """Move the bytes to the place that their digest names; nothing happens where they are already.

        Raises:
            StorageError: The file system refuses.
        """
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(self._place)
            _flush_folder(self._place.parent)
        except OSError as error:
            raise StorageError.of("write", self._place, error) from error


class BlobStore:
    """Blobs under one root folder.

    Args:
        root: The folder; made on first use.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, digest: Digest) -> Path:
        """Return where a blob stands, there or not."""
        return self.root / "sha256" / digest.hex[:2] / digest.hex

    @contextlib.contextmanager
    def stage(self, source: Path) -> Iterator[StagedBlob]:
        """Copy a file into the store under a temporary name; it is gone after the block unless it was kept.

        Raises:
            StorageError: The file cannot be read, or the store cannot be written.
        """
        temporary = self.root / "staging" / secrets.token_hex(12)
        try:
            _make_folder(temporary.parent)
            digest, size = _copy(source, temporary)
            yield StagedBlob(temporary, self.place(digest), digest, size)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def find(self, digest: Digest) -> Path:
        """Return the file of a blob.

        Raises:
            RegistryNotFoundError: It is not here.
        """
        place = self.place(digest)
        if not place.is_file():
            raise RegistryNotFoundError(
                f"{digest}: the database knows this artifact, the blob store at {self.root} does not hold it",
                context={"digest": str(digest)},
                hint="restore the blob folder from a backup, or add the file again",
            )
        return place

    def export(self, digest: Digest, target: Path) -> None:
        """Copy a blob out, and compare what was copied with its digest.

        Raises:
            DigestMismatchError: The stored bytes were changed; nothing is left at ``target``.
            StorageError: The file system refuses.
        """
        source = self.find(digest)
        state = hashlib.sha256()
        with atomic_file(target) as out, _reading(source) as chunks:
            for chunk in chunks:
                state.update(chunk)
                out.write(chunk)
            if state.hexdigest() != digest.hex:
                raise DigestMismatchError(
                    f"{source}: stored bytes have sha256:{state.hexdigest()}, expected {digest}",
                    context={"digest": str(digest)},
                    hint="the blob was damaged on the disk; restore it from a backup, or add the file again",
                )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", folder, error) from error


def _copy(source: Path, target: Path) -> tuple[Digest, int]:
    """Copy a file and flush it to the disk; return its digest and its size in bytes."""
    state, size = hashlib.sha256(), 0
    with _reading(source) as chunks:
        try:
            with target.open("xb") as out:
                for chunk in chunks:
                    state.update(chunk)
                    size += out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise StorageError.of("write", target, error) from error
    return Digest(state.hexdigest()), size


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise StorageError.of("read", path, error) from error
    with stream:
        yield iter(lambda: stream.read(CHUNK_BYTES), b"")


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
