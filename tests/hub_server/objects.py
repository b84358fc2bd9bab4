"""Large files by digest, in a folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

__all__ = ["LargeObjects"]


class LargeObjects:
    """Large files by sha256.

    Args:
        folder: Where they are; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._xet_hashes: dict[str, str] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Say where an object is, or would be."""
        return self._folder / sha256

    def has(self, sha256: str) -> bool:
        """Whether an object is here."""
        return self.path(sha256).exists()

    def write(self, pieces: Iterable[bytes]) -> str:
        """Store an object as it comes, and give its sha256; nothing stays where the pieces end in an error."""
        digest = hashlib.sha256()
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix="part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
        except BaseException:
            Path(name).unlink()
            raise
        Path(name).replace(self.path(digest.hexdigest()))
        return digest.hexdigest()

    def read(self, sha256: str) -> bytes:
        """Read an object whole."""
        return self.path(sha256).read_bytes()

    def set_xet_hash(self, sha256: str, xet_hash: str) -> None:
        """Note under which hash Xet keeps an object."""
        with self._lock:
            self._xet_hashes[sha256] = xet_hash

    def xet_hash(self, sha256: str) -> str | None:
        """Give the hash under which Xet keeps an object, where it does."""
        return self._xet_hashes.get(sha256)
