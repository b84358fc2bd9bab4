"""Where the documents that ship with the package are found: JSON Schemas and migrations.

In a checkout they stand at the top level, where people look for them; a wheel carries them inside the package
(see ADR-0003). Nothing else in the package knows that there are two places.
"""

from __future__ import annotations

from pathlib import Path

from ual_registry.errors import StorageError

__all__ = ["resource_folder"]

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """Return the folder ``schemas`` or ``migrations`` of this installation.

    Raises:
        StorageError: The installation is incomplete.
    """
    for candidate in (_PACKAGE / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise StorageError(f"this installation lacks its folder '{name}'", hint="install ual-registry again")
