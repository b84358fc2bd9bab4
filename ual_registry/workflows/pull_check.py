"""Verify an AIR file that was fetched and look at all of it in the same pass.

Its bytes are compared with the commit, which needs the digest of the file; adding it needs that and those of its
tensors. Both are taken at once, so that the file is read once, and nothing of it again when it is added.
"""

from __future__ import annotations

from pathlib import Path

from ual_registry.air.read import open_legal
from ual_registry.errors import FormatError
from ual_registry.hub.content import check_file, difference
from ual_registry.hub.model import HubFile
from ual_registry.registry.intake import Intake, take_in

__all__ = ["AirCheck"]


class AirCheck:
    """Compares a file with the commit, as ``check_file`` does.

    Args:
        is_alone: Whether a large file may take a second thread.

    Attributes:
        intake: What was found in the file, where its bytes are those of the commit and its header is legal.
    """

    def __init__(self, *, is_alone: bool = True) -> None:
        self.intake: Intake | None = None
        self._is_alone = is_alone

    def __call__(self, file: HubFile, path: Path) -> str | None:
        """Say what is wrong with the bytes, expected and got; ``None`` where nothing is.

        Raises:
            StorageError: They cannot be read.
        """
        self.intake = None
        try:
            found = open_legal(path)
        except FormatError:  # whether it came like that, its bytes tell
            return check_file(file, path)
        try:
            intake = take_in(found, None, is_alone=self._is_alone)
        finally:
            found.source.close()
        fault = difference(file, intake.size_bytes, intake.digest.hex)
        self.intake = intake if fault is None else None
        return fault
