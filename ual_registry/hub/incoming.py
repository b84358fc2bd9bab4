"""A file that comes by HTTP: written, and verified as it comes, and gone on with where it broke off.

The client's own way does neither: it reads in steps of 10 MiB, of which the last one is lost with the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from ual_registry.hub.content import Check
from ual_registry.hub.model import HubFile

__all__ = ["Incoming", "TooLongError"]

_STEP_BYTES = 512 * 1024  # written and verified at once
_PARTIAL = 206


class TooLongError(Exception):
    """Ends a file that does not end where it should."""


class Incoming:
    """A file on its way.

    Args:
        file: The file.
        stream: Where it goes; empty.
        check: What compares it as it comes; ``None`` where that is done afterwards.
        on_bytes: Called with the number of bytes of each step; negative where they must come again.
    """

    def __init__(self, file: HubFile, stream: BinaryIO, check: Check | None, on_bytes: Callable[[int], None]) -> None:
        self.position = 0
        self._check = check
        self._file = file
        self._stream = stream
        self._on_bytes = on_bytes

    def go_on(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        """Ask for what is missing; what comes is kept, whatever ends it.

        Raises:
            Exception: What the client raises, or ``on_bytes``.
            TooLongError: More came than the file has.
        """
        from huggingface_hub import get_session  # noqa: PLC0415  # only where the Hub is used
        from huggingface_hub.utils._http import hf_raise_for_status  # noqa: PLC0415  # makes the client's errors

        wanted = {"Range": f"bytes={self.position}-"} if self.position else {}
        with get_session().stream("GET", url, headers={**headers, **wanted}, timeout=timeout_s) as response:
            hf_raise_for_status(response)
            if self.position and response.status_code != _PARTIAL:
                self._begin_again()
            parts: list[bytes] = []
            try:
                for part in response.iter_bytes():
                    parts.append(part)
                    if sum(map(len, parts)) >= _STEP_BYTES:
                        self._take(parts)
            finally:
                self._take(parts)

    def _begin_again(self) -> None:
        """Drop what came, because the whole comes again."""
        self._on_bytes(-self.position)
        self._stream.seek(0)
        self._stream.truncate()
        if self._check is not None:
            self._check.reset()
        self.position = 0

    def _take(self, parts: list[bytes]) -> None:
        data = b"".join(parts)
        parts.clear()
        if self.position + len(data) > self._file.size_bytes:
            raise TooLongError
        self._stream.write(data)
        if self._check is not None:
            self._check.update(data)
        self.position += len(data)
        if data:
            self._on_bytes(len(data))
