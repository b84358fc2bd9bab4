"""The picture of a training: its loss over the steps, and that of what was held out. PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ual_registry.air.model import Statement
from ual_registry.errors import StorageError

__all__ = ["draw_curves", "figure"]

_TRAINED, _HELD_OUT, _BEST = "#9e9e9e", "#0b6e99", "#2e7d32"


def draw_curves(statement: Statement, path: Path, *, title: str) -> None:
    """Write the picture of a training; the ending of the path says in which format.

    Args:
        statement: The provenance of a training.
        path: Where to.
        title: What was trained.

    Raises:
        StorageError: The file cannot be written.
    """
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}):
        try:
            made = figure(statement, title=title)
            made.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error


def figure(statement: Statement, *, title: str) -> Figure:
    """Return the picture: the loss of the steps, the looks at what was held out, and the step that was chosen."""
    found: Any = statement.byproducts
    made = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = made.add_subplot()
    steps, losses = _points(found.get("curve", ()))
    axes.plot(steps, losses, color=_TRAINED, linewidth=1.0, label="training")
    looks, held_out = _points(found.get("eval_curve", ()))
    if looks:
        axes.plot(looks, held_out, color=_HELD_OUT, marker="o", markersize=3.5, linewidth=1.2, label="held out")
    if looks and found.get("best_step") is not None:
        axes.axvline(found["best_step"], color=_BEST, linewidth=0.8, linestyle="--", label="result")
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("loss, nats", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(title, fontsize=9, parse_math=False)
    return made


def _points(curve: Any) -> tuple[list[int], list[float]]:
    return [point["step"] for point in curve], [point["loss"] for point in curve]
