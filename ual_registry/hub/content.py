"""Whether bytes are what a commit holds; the Hub's client compares lengths only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from ual_registry.errors import StorageError
from ual_registry.hub.model import HubFile

__all__ = ["Check", "check_content", "check_file", "difference", "git_blob_id", "read_body"]

_BUFFER_BYTES = 256 * 1024  # what stays in the cache of a core
_BYTES_PER_S = 10_000  # how slow a server may be


def git_blob_id(data: bytes) -> str:
    """Return the name that git gives to a file's content.

    >>> git_blob_id(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Check:
    """Compares bytes with a file of a commit as they come; memory is constant.

    Args:
        file: The file.
    """

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._count = 0
        self._state = hashlib.sha256()
        if self._file.sha256 is None:
            self._state = hashlib.sha1(b"blob %d\0" % self._file.size_bytes, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._count += len(data)
        self._state.update(data)

    def fault(self) -> str | None:
        """Say what is wrong, expected and got; ``None`` where nothing is."""
        return difference(self._file, self._count, self._state.hexdigest())


def difference(file: HubFile, size_bytes: int, name: str) -> str | None:
    """Say where bytes are not those of a file of a commit, expected and got; ``None`` where they are.

    Args:
        file: The file.
        size_bytes: How many there are.
        name: What names them, in hexadecimal: SHA-256 where the Hub tells that of the file, git's name elsewhere.
    """
    if size_bytes != file.size_bytes:
        return f"{size_bytes} bytes came (expected {file.size_bytes})"
    kind, expected = ("git blob", file.blob_id) if file.sha256 is None else ("sha256", file.sha256)
    return None if name == expected else f"{kind} {name} (expected {expected or 'one, the Hub tells none'})"


def check_content(file: HubFile, data: bytes) -> str | None:
    """Say what is wrong with the bytes of a file, expected and got; ``None`` where nothing is."""
    check = Check(file)
    check.update(data)
    return check.fault()


def check_file(file: HubFile, path: Path) -> str | None:
    """Say what is wrong with a stored file, expected and got; ``None`` where nothing is.

    Raises:
        StorageError: It cannot be read.
    """
    check, buffer = Check(file), memoryview(bytearray(_BUFFER_BYTES))
    try:
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                check.update(buffer[:count])
    except OSError as error:
        raise StorageError.of("read", path, error) from error
    return check.fault()


def read_body(chunks: Iterable[bytes], *, limit_bytes: int, silence_s: float) -> bytes:
    """Read what comes, but no more than ``limit_bytes``, and not for ever.

    Args:
        chunks: The bytes as they come.
        limit_bytes: How many to take; what is beyond is left.
        silence_s: The seconds without a byte that are allowed; a few bytes now and then gain no more.

    Raises:
        TimeoutError: They come too slowly.
    """
    end = time.monotonic() + silence_s + limit_bytes / _BYTES_PER_S
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) >= limit_bytes:
            break
        if time.monotonic() > end:
            raise TimeoutError("no answer in time")
    return bytes(data[:limit_bytes])
