"""Pictures of routers: coverage and confusion, and how far domains overlap. PNG or SVG."""

from __future__ import annotations

import warnings
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

_MOST_SHOWN = 30
"""Domains up to which a heat map shows all; of more it shows those that are hardest to tell apart."""
_MOST_CHARACTERS = 28
"""Of a longer name the beginning is shown."""
_LEAST_NUMBER = 0.005
"""Share from which a cell carries its number."""
_LEAST_TOP = 0.1
"""Share that the darkest colour stands for at least, so that hardly any looks like hardly any."""


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
    """Return the picture of an evaluation: how often answers are wrong by how many are given, and what for what."""
    counts = np.array(found.confusion, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    shown = _shown(shares)
    side = _side(shown, found.names)
    made = Figure(figsize=(5.2 + side, side + 0.7), layout="constrained")
    curve, confusion = made.subplots(1, 2, width_ratios=[4.5, side])
    _draw_curve(curve, found)
    _heat_map(made, confusion, shares, found.names, shown, label="share of queries that another domain got")
    confusion.set_xlabel("said", fontsize=9)
    confusion.set_ylabel("true", fontsize=9)
    said = f"{found.queries} queries: {found.accuracy:.1%} in the right domain"
    made.suptitle(_title(said, shown, found.names), fontsize=10)
    return made


def overlap_figure(found: Overlap) -> Figure:
    """Return the picture of an overlap: how much probability the examples of a domain give to each other one."""
    shares = np.array(found.shares)
    np.fill_diagonal(shares, np.nan)  # no domain overlaps with itself
    shown = _shown(shares)
    side = _side(shown, found.names)
    made = Figure(figsize=(side + 1.4, side + 0.7), layout="constrained")
    axes = made.subplots()
    _heat_map(made, axes, shares, found.names, shown, label="mean probability given to the other domain")
    axes.set_xlabel("taken for", fontsize=9)
    axes.set_ylabel("domain", fontsize=9)
    said = "no two domains overlap"
    if found.pairs:
        worst = found.pairs[0]
        said = f"most alike: {_name(worst.first)} and {_name(worst.second)}, {worst.share:.1%}"
    made.suptitle(_title(said, shown, found.names), fontsize=10)
    return made


def _draw_curve(axes: Axes, found: RouterEvaluation) -> None:
    coverage, risk = zip(*found.risk_coverage, strict=True)
    axes.plot(coverage, risk, marker="o", markersize=3, color="#0b6e99", clip_on=False)
    axes.axvline(found.kept, color="#9e9e9e", linewidth=1, linestyle="--", label=f"routed: {found.kept:.1%}")
    axes.set_xlabel("share of queries answered, likeliest first", fontsize=9)
    axes.set_ylabel("wrong among them", fontsize=9)
    # Without an error the axis would else end at a twentieth of a per cent.
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.01, 1.1 * max(risk))))
    # As high as it is beside few domains, also beside many.
    axes.set_box_aspect(0.8)
    axes.set_anchor("N")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _shown(shares: np.ndarray) -> list[int]:
    """Return which domains a heat map shows, in their order: of many those of the pairs that share most."""
    if len(shares) <= _MOST_SHOWN:
        return list(range(len(shares)))
    known = np.nan_to_num(shares)
    rows, columns = np.triu_indices(len(shares), k=1)
    order = np.argsort(-(known + known.T)[rows, columns], kind="stable")
    found: dict[int, None] = {}
    for pair in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if len(found.keys() | set(pair)) <= _MOST_SHOWN:
            found.update(dict.fromkeys(pair))
    return sorted(found)


def _title(said: str, shown: Sequence[int], names: Sequence[str]) -> str:
    if len(shown) == len(names):
        return said
    return f"{said}\n{len(shown)} of {len(names)} domains are shown, those that are hardest to tell apart"


def _side(shown: Sequence[int], names: Sequence[str]) -> float:
    """Return width and height of a heat map with its names, in inches."""
    return max(2.6, 0.6 + 0.32 * len(shown)) + 0.07 * max(len(_name(names[place])) for place in shown)


def _heat_map(
    made: Figure, axes: Axes, shares: np.ndarray, names: Sequence[str], shown: Sequence[int], *, label: str
) -> None:
    """Draw shares of rows that columns got; the diagonal is grey, since it is of another size."""
    own = shares[np.ix_(shown, shown)]
    others = np.ma.masked_invalid(np.where(np.eye(len(own), dtype=bool), np.nan, own))
    top = max(_LEAST_TOP, float(others.max())) if others.count() else _LEAST_TOP
    colours = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    image = axes.imshow(others, cmap=colours, vmin=0, vmax=top, aspect="equal")
    axes.set_anchor("N")
    bar = made.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(label, fontsize=8)
    _percent(bar.ax.yaxis)
    axes.set_xticks(range(len(shown)), [_name(names[place]) for place in shown], rotation=90, fontsize=7)
    axes.set_yticks(range(len(shown)), [_name(names[place]) for place in shown], fontsize=7)
    for (row, column), value in np.ndenumerate(own):
        if value >= _LEAST_NUMBER:
            colour = "white" if row != column and value > 0.6 * top else "black"
            axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=6, color=colour)


def _name(name: str) -> str:
    """Return a name as a picture shows it: on one line, not too long, and with no formula in it."""
    line = " ".join(name.split())
    short = line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
    return short.replace("$", r"\$")


def _percent(axis: Axis) -> None:
    axis.set_major_formatter(PercentFormatter(xmax=1))
    axis.set_tick_params(labelsize=8)


def _save(made: Figure, path: Path) -> None:
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # an SVG leaves letters to its reader
        try:
            made.savefig(path, dpi=150, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error
