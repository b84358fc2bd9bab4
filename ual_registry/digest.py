"""The digest: the name of stored bytes.

A digest is ``sha256:`` and 64 lower-case hexadecimal digits. It covers bytes as they are stored, never a
re-serialisation of what they mean (OCI image-spec 1.1.1, descriptor, "Digests").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ual_registry.errors import FormatError, StorageError

__all__ = ["CHUNK_BYTES", "Digest"]

CHUNK_BYTES = 1 << 20
"""How much is read at once, in bytes."""

_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A sha256 digest; ``str()`` gives the stored form.

    Attributes:
        hex: 64 lower-case hexadecimal digits.

    >>> str(Digest.of_bytes(b""))[:20]
    'sha256:e3b0c44298fc1'
    >>> Digest.parse(str(Digest.of_bytes(b"air"))) == Digest.of_bytes(b"air")
    True
    """

    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read the stored form.

        Raises:
            FormatError: ``text`` is not ``sha256:`` and 64 lower-case hexadecimal digits.
        """
        if not _FORM.match(text):
            raise FormatError(
                f"digest {text!r}: expected 'sha256:' and 64 lower-case hexadecimal digits",
                context={"digest": text},
                code="digest-form",
            )
        return cls(text.removeprefix("sha256:"))

    @classmethod
    def of_chunks(cls, chunks: Iterable[bytes | memoryview]) -> Digest:
        """Digest the concatenation of ``chunks``."""
        state = hashlib.sha256()
        for chunk in chunks:
            state.update(chunk)
        return cls(state.hexdigest())

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        """Digest ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Digest the stored bytes of a file.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            with path.open("rb") as stream:
                return cls(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as error:
            raise StorageError.of("read", path, error) from error

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
