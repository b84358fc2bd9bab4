"""Read an AIR file for a user, who is told by name where it is a file of another format."""

from __future__ import annotations

from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.errors import FormatError
from ual_registry.interop.legacy import legacy_hint

__all__ = ["read_adapter"]


def read_adapter(path: Path) -> Adapter:
    """Open an AIR file; see ``air.read.read``.

    Raises:
        FormatError: The file is not legal AIR; where another format is recognised, the hint names it.
        StorageError: The file cannot be read.
    """
    try:
        return read(path)
    except FormatError as error:
        error.hint = legacy_hint(path) or error.hint
        raise
