"""Pictures of an evaluation: the arms with their intervals, the dose curve, and what reached which layer. PNG or SVG.

Nothing is shown on a screen and no global state of matplotlib is touched; the same evaluation gives the same SVG.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ual_registry.errors import StorageError
from ual_registry.evaluation.carried import CarriedEnergy
from ual_registry.evaluation.recovery import MetricReport
from ual_registry.evaluation.report import ADAPTER, BASE, NATIVE, Dose, Evaluation
from ual_registry.transfers.rungs import RUNGS

__all__ = ["draw", "figure"]

_COLOURS = {ADAPTER: "#0b6e99", NATIVE: "#2e7d32", BASE: "#444444"}
_OTHER = "#9e9e9e"
_PANEL_INCHES = 4.2
_LEAST_INCHES = 5.6
_NOTHING = "#e6e6e6"
_CARRIED = {
    "activations": "share of what the source reads that its map explains",
    "subspace": "share of the update inside the leading subspaces",
    **{rung.name: "share of the adapter's effect that was reached" for rung in RUNGS.values() if rung.is_whole},
}
"""What a method calls the share that it carried."""
_OF_THE_UPDATE = "share of the update that can be carried back"
_MOST_NAMES = 40
"""Layers whose names fit under a heat map."""


def draw(found: Evaluation, path: Path, carried: CarriedEnergy | None = None) -> None:
    """Write the picture of an evaluation; the ending of the path says in which format.

    Args:
        found: What was measured.
        path: Where to.
        carried: What of the source reached which layer, where the adapter was carried from another base.

    Raises:
        StorageError: The file cannot be written.
    """
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}):
        try:
            made = figure(found, carried)
            made.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error


def figure(found: Evaluation, carried: CarriedEnergy | None = None) -> Figure:
    """Return the picture: a panel for each metric and one for the dose curve, and a heat map of layers below."""
    panels = len(found.metrics) + (found.dose is not None)
    heights = [0.9 + 0.32 * len(found.metrics[0].arms), *([0.9 + 0.3 * len(carried.roles)] if carried else [])]
    made = Figure(figsize=(max(_PANEL_INCHES * panels, _LEAST_INCHES), sum(heights)), layout="constrained")
    grid = made.add_gridspec(len(heights), panels, height_ratios=heights)
    axes: list[Axes] = [made.add_subplot(grid[0, column]) for column in range(panels)]
    for index, (own, report) in enumerate(zip(axes, found.metrics, strict=False)):
        _arms(own, report, has_names=index == 0)
    if found.dose is not None:
        _curve(axes[-1], found.dose)
    if carried is not None:
        _heat_map(made, made.add_subplot(grid[1, :]), carried)
    made.suptitle(f"{found.task}, {found.items} items: {found.label or 'no verdict'}", fontsize=10)
    return made


def _arms(axes: Axes, report: MetricReport, *, has_names: bool) -> None:
    arms = report.arms[::-1]
    for place, arm in enumerate(arms):
        value: Any = arm.value
        # A percentile interval need not hold the value itself.
        reach = [[max(value.value - value.low, 0.0)], [max(value.high - value.value, 0.0)]]
        axes.errorbar(value.value, place, xerr=reach, fmt="o", markersize=4, color=_colour(arm.arm))
    base = report.arm(BASE)
    if base is not None:
        axes.axvline(base.value.value, color=_COLOURS[BASE], linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(arms)), [arm.arm for arm in arms] if has_names else [""] * len(arms), fontsize=8)
    axes.set_xlabel(f"{report.metric}, 95 % interval", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)


def _colour(arm: str) -> str:
    """Return the colour of an arm; that of the adapter at any dose is one."""
    return _COLOURS[ADAPTER] if arm.startswith(f"{ADAPTER} x ") else _COLOURS.get(arm, _OTHER)


def _curve(axes: Axes, dose: Dose) -> None:
    gammas = [point.gamma for point in dose.points]
    axes.plot(gammas, [point.values[dose.metric] for point in dose.points], marker="o", markersize=4, color="#0b6e99")
    axes.axvline(dose.chosen, color=_COLOURS[NATIVE], linewidth=0.8, linestyle="--")
    axes.set_xlabel(f"dose (dev, {dose.items} items; chosen {dose.chosen:g})", fontsize=8)
    axes.set_ylabel(dose.metric, fontsize=8)
    axes.tick_params(labelsize=8)


def _heat_map(made: Figure, axes: Axes, carried: CarriedEnergy) -> None:
    colours = mpl.colormaps["viridis"].with_extremes(bad=_NOTHING)
    shares = np.array(carried.shares, dtype=np.float64)
    drawn = axes.imshow(np.ma.masked_invalid(shares), vmin=0.0, vmax=1.0, aspect="auto", cmap=colours)
    axes.set_yticks(range(len(carried.roles)), carried.roles, fontsize=8)
    step = -(-len(carried.layers) // _MOST_NAMES)
    axes.set_xticks(range(0, len(carried.layers), step), carried.layers[::step], fontsize=7)
    axes.set_xticks(np.arange(len(carried.layers)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(carried.roles)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    share = _CARRIED.get(carried.method, _OF_THE_UPDATE)
    axes.set_xlabel(f"layer; {share} ({carried.method}; grey: nothing)", fontsize=8)
    bar = made.colorbar(drawn, ax=axes, pad=0.01)
    bar.ax.tick_params(labelsize=7)
