"""Read an AIR file for a user, who is told by name where it is a file of another format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import open_legal, read
from ual_registry.air.validate import Inspection
from ual_registry.errors import FormatError
from ual_registry.interop.legacy import legacy_hint

__all__ = ["open_file", "read_adapter"]


def read_adapter(path: Path) -> Adapter:
    """Open an AIR file; see ``air.read.read``.

    Raises:
        FormatError: The file is not legal AIR; where another format is recognised, the hint names it.
        StorageError: The file cannot be read.
    """
    with _hinted(path):
        return read(path)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Inspection]:
    """Open an AIR file of any kind and check its header in full; it is closed at the end.

    Raises:
        FormatError: As ``read_adapter``.
        StorageError: The file cannot be read.
    """
    with _hinted(path):
        found = open_legal(path)
    with contextlib.closing(found.source):
        yield found


@contextlib.contextmanager
def _hinted(path: Path) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        error.hint = legacy_hint(path) or error.hint
        raise
