"""What the store of Xet holds: xorbs, files made of their chunks, and tokens."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.hub_server.xet_formats import Chunk, XetFile, read_xorb

__all__ = ["XetContents"]


class XetContents:
    """Xorbs, files and tokens.

    Args:
        folder: Where the xorbs lie; made here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._xorbs: dict[str, tuple[Chunk, ...]] = {}
        self._files: dict[str, XetFile] = {}
        self._by_sha256: dict[str, str] = {}
        self._tokens: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, xet_hash: str) -> XetFile | None:
        """Say what a file is made of, where it is here."""
        return self._files.get(xet_hash)

    def find(self, sha256: str) -> str | None:
        """Give the Xet hash of a file, where it is here."""
        return self._by_sha256.get(sha256)

    def chunks(self, xorb: str) -> tuple[Chunk, ...] | None:
        """Say where the chunks of a xorb lie, where it is here."""
        return self._xorbs.get(xorb)

    def path(self, xorb: str) -> Path:
        """Say where a xorb is, or would be."""
        return self.folder / xorb

    def add_xorb(self, xorb: str, data: bytes) -> bool:
        """Store a xorb, and tell whether it is new."""
        with self._lock:
            if xorb in self._xorbs:
                return False
            self.path(xorb).write_bytes(data)
            self._xorbs[xorb] = read_xorb(data)
            return True

    def add_file(self, file: XetFile) -> None:
        """Note what a file is made of.

        Raises:
            ValueError: A xorb of it is not here.
        """
        with self._lock:
            for segment in file.segments:
                if segment.xorb not in self._xorbs:
                    raise ValueError(f"no xorb {segment.xorb}")
            self._files[file.hash] = file
            if file.sha256:
                self._by_sha256[file.sha256] = file.hash

    def admit(self, token: str, kind: str, expires: int) -> None:
        """Let a token in that may ``read`` or also ``write``, until a second of the epoch."""
        with self._lock:
            self._tokens[token] = (kind, expires)

    def allows(self, token: str, kind: str) -> bool:
        """Whether a token is known, lives, and allows to ``read`` or to ``write``."""
        allowed, expires = self._tokens.get(token, ("", 0))
        return kind in (allowed, "read") and expires > time.time()

    def expire_tokens(self) -> None:
        """Refuse every token that was let in so far."""
        with self._lock:
            self._tokens.clear()
