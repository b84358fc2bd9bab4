"""Draw how the training of an adapter went, from its own record."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ual_registry.errors import FormatError, MissingExtraError, StorageError
from ual_registry.storage import check_target
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import locate

__all__ = ["plot_training"]

_ENDINGS = (".png", ".svg")


def plot_training(reference: str, target: str | Path, *, force: bool = False) -> None:
    """Draw the loss curve of the adapter that a reference means; of several trainings the last one's.

    Args:
        reference: The adapter.
        target: The picture, PNG or SVG.
        force: Whether to replace what stands there.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FormatError: The adapter holds no record of a training with a curve.
        StorageError: The picture cannot be written.
        UALError: The reference means nothing, or the file is not legal AIR.
    """
    path = Path(target)
    if path.suffix not in _ENDINGS:
        raise StorageError(
            f"cannot draw {path}: a picture is a file that ends in {' or '.join(_ENDINGS)}", context={"path": str(path)}
        )
    check_target(path, force=force)
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("plot", needed_for="a picture")
    with read_adapter(locate(reference)) as adapter:
        manifest = adapter.manifest
    found = [own for own in manifest.provenance if own.type == "training" and own.byproducts.get("curve")]
    if not found:
        raise FormatError(
            f"{reference}: holds no record of a training with a curve",
            code="no-curve",
            context={"reference": reference},
        )
    from ual_registry.training.plots import draw_curves  # noqa: PLC0415  # loads matplotlib

    draw_curves(found[-1], path, title=f"{manifest.name or reference} on {manifest.base_model.id}")
