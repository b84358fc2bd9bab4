"""Pictures of an evaluation: the arms with their intervals, and the dose curve. PNG or SVG.

Nothing is shown on a screen and no global state of matplotlib is touched; the same evaluation gives the same SVG.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ual_registry.errors import StorageError
from ual_registry.evaluation.recovery import MetricReport
from ual_registry.evaluation.report import ADAPTER, BASE, NATIVE, Dose, Evaluation

__all__ = ["draw", "figure"]

_COLOURS = {ADAPTER: "#0b6e99", NATIVE: "#2e7d32", BASE: "#444444"}
_OTHER = "#9e9e9e"
_PANEL_INCHES = 4.2


def draw(found: Evaluation, path: Path) -> None:
    """Write the picture of an evaluation; the ending of the path says in which format.

    Raises:
        StorageError: The file cannot be written.
    """
    # An SVG names its parts by a hash; with a salt of our own two runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "ual-registry", "svg.fonttype": "none"}):
        try:
            figure(found).savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError.of("write", path, error) from error


def figure(found: Evaluation) -> Figure:
    """Return the picture: one panel for each metric, and one for the dose curve where there is one."""
    panels = len(found.metrics) + (found.dose is not None)
    made = Figure(figsize=(_PANEL_INCHES * panels, 0.9 + 0.32 * len(found.metrics[0].arms)), layout="constrained")
    axes: list[Axes] = list(made.subplots(1, panels, squeeze=False)[0])
    for index, (own, report) in enumerate(zip(axes, found.metrics, strict=False)):
        _arms(own, report, has_names=index == 0)
    if found.dose is not None:
        _curve(axes[-1], found.dose)
    made.suptitle(f"{found.task}, {found.items} items: {found.label or 'no verdict'}", fontsize=10)
    return made


def _arms(axes: Axes, report: MetricReport, *, has_names: bool) -> None:
    arms = report.arms[::-1]
    for place, arm in enumerate(arms):
        value: Any = arm.value
        # A percentile interval need not hold the value itself.
        reach = [[max(value.value - value.low, 0.0)], [max(value.high - value.value, 0.0)]]
        axes.errorbar(value.value, place, xerr=reach, fmt="o", markersize=4, color=_COLOURS.get(arm.arm, _OTHER))
    base = report.arm(BASE)
    if base is not None:
        axes.axvline(base.value.value, color=_COLOURS[BASE], linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(arms)), [arm.arm for arm in arms] if has_names else [""] * len(arms), fontsize=8)
    axes.set_xlabel(f"{report.metric}, 95 % interval", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)


def _curve(axes: Axes, dose: Dose) -> None:
    gammas = [point.gamma for point in dose.points]
    axes.plot(gammas, [point.values[dose.metric] for point in dose.points], marker="o", markersize=4, color="#0b6e99")
    axes.axvline(dose.chosen, color=_COLOURS[NATIVE], linewidth=0.8, linestyle="--")
    axes.set_xlabel(f"dose (dev, {dose.items} items; chosen {dose.chosen:g})", fontsize=8)
    axes.set_ylabel(dose.metric, fontsize=8)
    axes.tick_params(labelsize=8)
