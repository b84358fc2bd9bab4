"""Which layers and roles carry an adapter, as numbers: what the card's table and its picture are drawn from.

A manifest can speak of a billion layers and of a hundred thousand entries; what is made of it here is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.air.layers import entries_by_role
from ual_registry.air.model import Entry, Manifest

__all__ = [
    "Grid",
    "Panel",
    "RoleGroup",
    "layer_grid",
    "layers_per_column",
    "role_groups",
]

MAX_COLUMNS = 48
"""Layers, or groups of layers, that stand side by side."""

_MAX_MEASURE = 10**9
"""JSON sets no limit to a number, and a picture does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleGroup:
    """The entries of one role in one stack.

    Attributes:
        stack: ``encoder``, ``decoder``, or ``None``.
        role: The role.
        depth: Layers of the stack.
        entries: The entries.
    """

    stack: str | None
    role: str
    depth: int
    entries: tuple[Entry, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have the role, ascending; empty outside the blocks."""
        return tuple(sorted({entry.layer for entry in self.entries if entry.layer is not None}))

    @property
    def experts(self) -> tuple[int, ...]:
        """The experts that have it in some layer, ascending; empty outside a mixture."""
        return tuple(sorted({entry.expert for entry in self.entries if entry.expert is not None}))


def role_groups(manifest: Manifest) -> tuple[RoleGroup, ...]:
    """Return the entries by stack and role, in the order of the role table."""
    depths = {stack.name: stack.num_layers for stack in manifest.base_model.stacks}
    return tuple(
        RoleGroup(stack=stack, role=role, depth=depths[stack], entries=tuple(entries))
        for (stack, role), entries in entries_by_role(manifest).items()
    )


def layers_per_column(depth: int) -> int:
    """Return how many layers share a column where a stack is deep."""
    return -(-depth // MAX_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The grid of one stack.

    Attributes:
        stack: Its name.
        roles: A row for each.
        depth: Layers of the stack.
        layers_per_column: How many layers a column stands for.
        values: A row for each role, a number or nothing for each column.
        outside: The number of each role that stands outside the blocks, nothing for others.
    """

    stack: str | None
    roles: tuple[str, ...]
    depth: int
    layers_per_column: int
    values: tuple[tuple[float | None, ...], ...]
    outside: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What the picture shows.

    Attributes:
        measure: What its numbers are: ``effective rank`` where a projection measured that of every entry, else
            ``rank``.
        panels: One for each stack that carries anything.
    """

    measure: str
    panels: tuple[Panel, ...]

    @property
    def numbers(self) -> tuple[float, ...]:
        """Every number of the grid, ascending."""
        rows = (row for panel in self.panels for row in (*panel.values, panel.outside))
        return tuple(sorted(value for row in rows for value in row if value is not None))

    def description(self) -> str:
        """Say in words what the picture shows, for those who do not see it."""
        parts = []
        for panel in self.panels:
            name = f"{panel.stack}: " if panel.stack else ""
            parts.append(f"{name}{', '.join(panel.roles)} over {panel.depth} layers")
        low, high = self.numbers[0], self.numbers[-1]
        span = f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
        return f"Grid of the roles and layers that carry the adapter ({'; '.join(parts)}); {self.measure} {span}"


def layer_grid(manifest: Manifest) -> Grid:
    """Return the grid of an adapter; entries that share a cell, experts or layers, are averaged."""
    measured = _effective_ranks(manifest)
    groups: dict[str | None, list[RoleGroup]] = {}
    for group in role_groups(manifest):
        groups.setdefault(group.stack, []).append(group)
    panels = tuple(_panel(stack, members, measured) for stack, members in groups.items())
    return Grid(measure="effective rank" if measured else "rank", panels=panels)


def _effective_ranks(manifest: Manifest) -> Mapping[str, float]:
    """Return the effective rank by label, as the last projection measured it; empty where an entry lacks one."""
    measures: Mapping[str, Any] = {}
    for statement in manifest.provenance:
        if statement.type == "projection":
            measures = statement.byproducts.get("entries", {})
    labels = [entry.label for entry in manifest.entries]
    if not all(label in measures for label in labels):
        return {}
    return {label: float(min(measures[label]["effective_rank"], _MAX_MEASURE)) for label in labels}


def _panel(stack: str | None, groups: list[RoleGroup], measured: Mapping[str, float]) -> Panel:
    depth = groups[0].depth
    width = layers_per_column(depth)
    cells = [_cells(group, width, measured) for group in groups]
    return Panel(
        stack=stack,
        roles=tuple(group.role for group in groups),
        depth=depth,
        layers_per_column=width,
        values=tuple(tuple(row.get(column) for column in range(-(-depth // width))) for row in cells),
        outside=tuple(row.get(None) for row in cells),
    )


def _cells(group: RoleGroup, width: int, measured: Mapping[str, float]) -> dict[int | None, float]:
    """Return the mean of the entries of every column; ``None`` stands for outside the blocks."""
    sums: dict[int | None, list[float]] = {}
    for entry in group.entries:
        column = None if entry.layer is None else entry.layer // width
        sums.setdefault(column, []).append(measured.get(entry.label, float(entry.rank)))
    return {column: sum(numbers) / len(numbers) for column, numbers in sums.items()}
