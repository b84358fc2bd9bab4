"""The picture of an adapter: its roles by layer, as a PNG that is the same for the same manifest."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

from ual_registry.air.model import Manifest
from ual_registry.hub.card_grid import Grid, Panel, layer_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_picture"]

_DPI = 150
_CELL_INCHES = 0.36
_ROW_INCHES = 0.34
_MIN_WIDTH_INCHES = 2.4
_MARGIN_INCHES = 0.75
_MAX_WRITTEN = 16
"""Columns up to which each cell has room for its number."""

_EMPTY = "#eceff1"
_INK = "#263238"


def draw_picture(manifest: Manifest) -> bytes | None:
    """Draw which layers and roles carry an adapter, and return a PNG; ``None`` where matplotlib is not installed.

    The same manifest gives the same bytes with one version of matplotlib, whatever its settings.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    import matplotlib as mpl  # noqa: PLC0415  # an optional extra that takes a second to import

    mpl_defaults = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
    with mpl.rc_context(mpl_defaults):
        figure = _figure(layer_grid(manifest))
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _figure(grid: Grid) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # see above
    from matplotlib.figure import Figure  # noqa: PLC0415  # see above

    figure = Figure(figsize=_size(grid), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # needs no screen
    axes = figure.subplots(
        len(grid.panels), 1, squeeze=False, height_ratios=[max(len(panel.roles), 2) for panel in grid.panels]
    )
    scale = _scale(grid)
    for row, panel in zip(axes, grid.panels, strict=True):
        _draw(row[0], panel, scale)
    bar = figure.colorbar(scale, ax=axes, shrink=0.9, pad=0.02, aspect=14)
    bar.set_label(grid.measure, color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=_INK, labelsize=8)
    return figure


def _size(grid: Grid) -> tuple[float, float]:
    """Return width and height in inches: room for the names at the left and the colours at the right."""
    columns = max(len(row) for panel in grid.panels for row in panel.values)
    names = max(len(role) for panel in grid.panels for role in panel.roles)
    width = max(columns * _CELL_INCHES * (1 if columns <= _MAX_WRITTEN else 0.5), _MIN_WIDTH_INCHES)
    height = sum(max(len(panel.roles), 2) * _ROW_INCHES + _MARGIN_INCHES for panel in grid.panels)
    return width + 1.5 + names * 0.085, height


def _scale(grid: Grid) -> Any:
    """Return the colours: from nothing to the largest number, so that one shade means one number in every picture."""
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415  # see above
    from matplotlib.colors import Normalize  # noqa: PLC0415  # see above

    return ScalarMappable(norm=Normalize(vmin=0, vmax=max(grid.numbers[-1], 1e-9)), cmap="GnBu")


def _draw(axes: Axes, panel: Panel, scale: Any) -> None:
    has_outside = any(value is not None for value in panel.outside)
    shift = 1 if has_outside else 0
    for y, (row, outside) in enumerate(zip(panel.values, panel.outside, strict=True)):
        for x, value in enumerate(row):
            _cell(axes, x, y, value, scale, is_written=len(row) <= _MAX_WRITTEN)
        if outside is not None:
            _cell(axes, len(row) + 0.5, y, outside, scale, is_written=True)
    columns = len(panel.values[0])
    axes.set_xlim(-0.5, columns - 0.5 + 1.5 * shift)
    axes.set_ylim(len(panel.roles) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.roles)), panel.roles, fontsize=9, parse_math=False)
    _name_columns(axes, panel, columns, has_outside=has_outside)
    axes.tick_params(length=0, colors=_INK)
    axes.set_frame_on(False)


def _cell(axes: Axes, x: float, y: float, value: float | None, scale: Any, *, is_written: bool) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  # see above

    colour = _EMPTY if value is None else scale.to_rgba(value)
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, linewidth=0))
    if value is not None and is_written:
        is_dark = scale.norm(value) > 0.55
        text = f"{value:.3g}" if value >= 100 else f"{value:.2g}"
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if is_dark else _INK)


def _name_columns(axes: Axes, panel: Panel, columns: int, *, has_outside: bool) -> None:
    """Write the first layer of some columns, few enough to be read, and what the columns are."""
    step = next(step for step in (1, 2, 4, 8, 16) if columns <= _MAX_WRITTEN * step)
    ticks: list[float] = [float(column) for column in range(0, columns, step)]
    labels = [str(column * panel.layers_per_column) for column in range(0, columns, step)]
    if has_outside:
        ticks.append(columns + 0.5)
        labels.append("no layer")
    axes.set_xticks(ticks, labels, fontsize=8)
    axes.set_xlabel(_title(panel), fontsize=9, color=_INK)


def _title(panel: Panel) -> str:
    stack = f" of the {panel.stack}" if panel.stack else ""
    each = f", {panel.layers_per_column:,} to a column" if panel.layers_per_column > 1 else ""
    return f"layer{stack}{each}"
