"""Pictures of routers: coverage and confusion, and how far domains overlap. PNG or SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ual_registry.dispatch.measure import RouterEvaluation
from ual_registry.dispatch.overlap import Overlap
from ual_registry.errors import StorageError

__all__ = ["draw_evaluation", "draw_overlap", "evaluation_figure", "overlap_figure"]

_MOST_NUMBERS = 20
"""Domains up to which the cells of a heat map carry numbers."""
_MOST_NAMES = 60
_LEAST_NUMBER = 0.005
"""Share from which a cell carries its number."""
_LEAST_TOP = 0.1
"""Share that the darkest colour of an overlap stands for at least, so that hardly any looks like hardly any."""


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
    made = Figure(figsize=(5.2 + side, side + 0.7), layout="constrained")
    curve, confusion = made.subplots(1, 2, width_ratios=[4.5, side])
    coverage, risk = zip(*found.risk_coverage, strict=True)
    curve.plot(coverage, risk, marker="o", markersize=3, color="#0b6e99", clip_on=False)
    curve.axvline(found.kept, color="#9e9e9e", linewidth=1, linestyle="--", label=f"routed: {found.kept:.1%}")
    curve.set_xlabel("share of queries answered, likeliest first", fontsize=9)
    curve.set_ylabel("wrong among them", fontsize=9)
    # Without an error the axis would else end at a twentieth of a per cent.
    curve.set(xlim=(0, 1.02), ylim=(0, max(0.01, 1.1 * max(risk))))
    _percent(curve.xaxis)
    _percent(curve.yaxis)
    curve.legend(fontsize=8, frameon=False, loc="upper left")
    counts = np.array(found.confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    _heat_map(made, confusion, shares, found.names, label="share of a domain's queries", top=1.0)
    confusion.set_xlabel("said", fontsize=9)
    confusion.set_ylabel("true", fontsize=9)
    made.suptitle(f"{found.queries} queries: {found.accuracy:.1%} in the right domain", fontsize=10)
    return made


def overlap_figure(found: Overlap) -> Figure:
    """Return the picture of an overlap."""
    side = _side(len(found.names))
    made = Figure(figsize=(side + 1.4, side + 0.7), layout="constrained")
    axes = made.subplots()
    shares = np.array(found.shares)
    np.fill_diagonal(shares, np.nan)  # no domain overlaps with itself
    known = shares[np.isfinite(shares)]
    top = max(_LEAST_TOP, float(known.max())) if known.size else _LEAST_TOP
    _heat_map(made, axes, shares, found.names, label="mean probability given to the other domain", top=top)
    axes.set_xlabel("taken for", fontsize=9)
    axes.set_ylabel("domain", fontsize=9)
    said = "no two domains overlap"
    if found.pairs:
        worst = found.pairs[0]
        said = f"most alike: {worst.first} and {worst.second}, {worst.share:.1%}"
    made.suptitle(said, fontsize=10)
    return made


def _side(count: int) -> float:
    return float(min(max(3.6, 1.6 + 0.32 * count), 16))


def _heat_map(made: Figure, axes: Axes, values: np.ndarray, names: Sequence[str], *, label: str, top: float) -> None:
    colours = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=top, aspect="equal")
    bar = made.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(label, fontsize=8)
    _percent(bar.ax.yaxis)
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    if len(names) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if value >= _LEAST_NUMBER:
                colour = "white" if value > 0.6 * top else "black"
                axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=6, color=colour)


def _percent(axis: Axis) -> None:
    axis.set_major_formatter(PercentFormatter(xmax=1))
    axis.set_tick_params(labelsize=8)


def _save(made: Figure, path: Path) -> None:
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}):
        try:
            made.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error
