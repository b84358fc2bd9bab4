"""What is asked of a picture before any work is done for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ual_registry.errors import MissingExtraError, StorageError
from ual_registry.storage import check_target

__all__ = ["check_picture"]

_ENDINGS = (".png", ".svg")


def check_picture(path: Path, *, force: bool) -> None:
    """Check that a picture can be drawn and written.

    Args:
        path: Where it goes.
        force: Whether to replace what stands there.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The file is no PNG or SVG by its name, or cannot be written.
    """
    if path.suffix not in _ENDINGS:
        raise StorageError(
            f"cannot draw {path}: a picture is a file that ends in {' or '.join(_ENDINGS)}", context={"path": str(path)}
        )
    check_target(path, force=force)
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("plot", needed_for="a picture")
