"""Writing so that the disk works meanwhile: a flush at the end then waits for little."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

__all__ = ["EarlyFlush", "Writer"]


class Writer(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes and return their number."""


class EarlyFlush:
    """Writes to a file and lets the system begin at once to bring each part to the disk, without waiting for it.

    Nothing is on the disk for certain before an ``fsync``. Where the system cannot be asked, that one waits for all.

    Args:
        stream: A file that is open for writing.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes and return their number.

        Raises:
            OSError: The file cannot be written.
        """
        start = self._stream.tell()
        written = self._stream.write(data)
        if written and hasattr(os, "posix_fadvise"):
            self._stream.flush()
            # Linux begins to write what is not needed in memory; what it has not yet written stays there.
            os.posix_fadvise(self._stream.fileno(), start, written, os.POSIX_FADV_DONTNEED)
        return written
