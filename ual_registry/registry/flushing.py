"""Writing so that the disk works meanwhile: a flush at the end then waits for little."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

__all__ = ["EarlyFlush", "Writer"]


_PART_BYTES = 1 << 20
"""So much is handed over at once; asking for less takes longer than it saves."""


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
        self._start = stream.tell()
        self._pending = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes and return their number.

        Raises:
            OSError: The file cannot be written.
        """
        written = self._stream.write(data)
        self._pending += written
        if self._pending >= _PART_BYTES and hasattr(os, "posix_fadvise"):
            self._stream.flush()
            # Linux begins to write what is not needed in memory; what it has not yet written stays there.
            os.posix_fadvise(self._stream.fileno(), self._start, self._pending, os.POSIX_FADV_DONTNEED)
            self._start, self._pending = self._start + self._pending, 0
        return written
