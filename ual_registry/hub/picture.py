"""The picture of an adapter: its roles by layer, as a PNG that is the same for the same manifest."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
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

_DARK = 0.55
"""Share of the largest number from which a cell is so dark that white is read better on it."""

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
    columns = len(panel.values[0])
    cells = [
        *((x, y, value) for y, row in enumerate(panel.values) for x, value in enumerate(row)),
        *((columns + 0.5, y, value) for y, value in enumerate(panel.outside) if value is not None),
    ]
    _fill(axes, cells, scale)
    for x, y, value in cells:
        if value is not None and (columns <= _MAX_WRITTEN or x > columns):
            _write(axes, x, y, value, is_dark=scale.norm(value) > _DARK)
    axes.set_xlim(-0.5, columns + (1 if has_outside else -0.5))
    axes.set_ylim(len(panel.roles) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.roles)), panel.roles, fontsize=9, parse_math=False)
    _name_columns(axes, panel, columns, has_outside=has_outside)
    axes.tick_params(length=0, colors=_INK)
    axes.set_frame_on(False)


def _fill(axes: Axes, cells: Sequence[tuple[float, float, float | None]], scale: Any) -> None:
    """Draw the cells at one go; one by one they take as long as hashing a large adapter."""
    from matplotlib.collections import PatchCollection  # noqa: PLC0415  # see above
    from matplotlib.patches import Rectangle  # noqa: PLC0415  # see above

    colours = [_EMPTY if value is None else scale.to_rgba(value) for _, _, value in cells]
    shapes = [Rectangle((x - 0.47, y - 0.46), 0.94, 0.92) for x, y, _ in cells]
    squares = PatchCollection(shapes, facecolors=colours, linewidths=0)
    squares.set_in_layout(False)  # the axes have room for them
    axes.add_collection(squares, autolim=False)


def _write(axes: Axes, x: float, y: float, value: float, *, is_dark: bool) -> None:
    text = f"{value:.3g}" if value >= 100 else f"{value:.2g}"
    written = axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if is_dark else _INK)
    written.set_in_layout(False)


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
