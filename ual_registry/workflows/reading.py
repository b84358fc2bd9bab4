"""Read an AIR file for a user, who is told by name where it is a file of another format, and note what was read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import open_legal, read, verify
from ual_registry.air.validate import Inspection
from ual_registry.digest import Digest
from ual_registry.errors import FormatError
from ual_registry.interop.legacy import legacy_hint
from ual_registry.workflows.references import locate

__all__ = ["open_file", "open_material", "read_adapter"]


def read_adapter(path: Path) -> Adapter:
    """Open an AIR file; see ``air.read.read``.

    Raises:
        FormatError: The file is not legal AIR; where another format is recognised, the hint names it.
        StorageError: The file cannot be read.
    """
    with _hinted(path):
        return read(path)


def open_material(stack: contextlib.ExitStack, name: str, reference: str, materials: dict[str, str]) -> Adapter:
    """Open an adapter that something is made of or compared with, and note the digest of its file.

    Args:
        stack: Keeps it open.
        name: What to call it among the materials.
        reference: A path, or a name in the registry.
        materials: Gets the digest.

    Raises:
        UALError: As ``read_adapter`` and ``workflows.references.locate``, or its tensors do not have their digest.
    """
    path = locate(reference)
    adapter = stack.enter_context(read_adapter(path))
    verify(adapter)
    materials[name] = str(Digest.of_file(path))
    return adapter


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
