"""Pictures of routers: coverage and confusion, and how far domains overlap. PNG or SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ual_registry.dispatch.measure import RouterEvaluation
from ual_registry.dispatch.overlap import Overlap
from ual_registry.errors import StorageError

__all__ = ["draw_evaluation", "draw_overlap", "evaluation_figure", "overlap_figure"]

_MOST_NUMBERS = 20
"""Domains up to which the cells of a heat map carry numbers."""
_MOST_NAMES = 60


def draw_evaluation(found: RouterEvaluation, path: Path) -> None:
    """Write the risk-coverage curve and the confusion of a router.

    Raises:
        StorageError: The file cannot be written.
    """
    _save(evaluation_figure(found), path)


def draw_overlap(found: Overlap, path: Path) -> None:
    """Write the heat map of how far domains overlap.

    Raises:
        StorageError: The file cannot be written.
    """
    _save(overlap_figure(found), path)


def evaluation_figure(found: RouterEvaluation) -> Figure:
    """Return the picture of an evaluation."""
    side = _side(len(found.names))
    made = Figure(figsize=(4.5 + side, side + 1), layout="constrained")
    curve, confusion = made.subplots(1, 2, width_ratios=[4.5, side])
    coverage, risk = zip(*found.risk_coverage, strict=True)
    curve.plot(coverage, np.array(risk) * 100, marker="o", markersize=3, color="#0b6e99")
    curve.axvline(found.kept, color="#9e9e9e", linewidth=1, linestyle="--", label=f"routed: {found.kept:.1%}")
    curve.set(xlabel="share of queries answered", ylabel="wrong among them, %", xlim=(0, 1.02))
    curve.set_ylim(bottom=0)
    curve.legend(fontsize=8, frameon=False)
    counts = np.array(found.confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    _heat_map(made, confusion, shares, found.names, "share of a domain's queries")
    confusion.set(xlabel="said", ylabel="true")
    made.suptitle(f"{found.queries} queries: {found.accuracy:.1%} in the right domain", fontsize=10)
    return made


def overlap_figure(found: Overlap) -> Figure:
    """Return the picture of an overlap."""
    side = _side(len(found.names))
    made = Figure(figsize=(side + 1, side + 1), layout="constrained")
    axes = made.subplots()
    _heat_map(made, axes, np.array(found.shares), found.names, "mean probability given to the other domain")
    axes.set(xlabel="taken for", ylabel="domain")
    return made


def _side(count: int) -> float:
    return float(min(max(3.6, 1.6 + 0.32 * count), 16))


def _heat_map(made: Figure, axes: Axes, values: np.ndarray, names: Sequence[str], label: str) -> None:
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=max(float(values.max()), 1e-9), aspect="equal")
    made.colorbar(image, ax=axes, shrink=0.8).set_label(label, fontsize=8)
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    if len(names) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if value >= 0.005:
                colour = "white" if value > 0.6 * values.max() else "black"
                axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=6, color=colour)


def _save(made: Figure, path: Path) -> None:
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}):
        try:
            made.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error
