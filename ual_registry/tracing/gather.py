"""Put what was seen of single modules together: one description for the same module of all blocks and experts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ual_registry.tracing.blocks import block_of
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.roles import Use
from ual_registry.tracing.survey import Matrix

__all__ = ["FoundModule", "Undecided", "gather"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Something that could not be told, and why."""

    what: str
    reason: str


@dataclass(slots=True, kw_only=True)
class FoundModule:
    """The same module in every block of one stack.

    Attributes:
        root: Path of the blocks, up to the index.
        path: Path inside a block, with ``{expert}``.
        parameter: Name of a parameter that holds all experts.
        rows: The rows of each role, the roles in the order of their first rows.
        weight: ``linear`` or ``conv1d``.
        layout: How the rows of several roles are laid out.
        layers: The blocks that hold it.
        reasons: What was seen, by role.
        runs: How often a block's module ran.
        when: The settings that it needs, by field.
        is_elsewhere: Whether another setting than the watched one switches it on.
        values: The flattened config with that setting.
    """

    root: str
    path: str
    parameter: str | None
    weight: str
    rows: dict[str, tuple[int, ...]] = field(default_factory=dict)
    layout: str | None = None
    layers: tuple[int, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    runs: int = 1
    when: dict[str, Any] = field(default_factory=dict)
    is_elsewhere: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_path(self) -> str:
        """Return the path inside a block, with the parameter's name where there is one."""
        return self.path if self.parameter is None else f"{self.path}.{self.parameter}"

    def path_in(self, layer: int, expert: int = 0) -> str:
        """Return the whole path in one block."""
        return f"{self.root}{layer}.{self.full_path.replace('{expert}', str(expert))}"


def gather(uses: Iterable[Use], matrices: Mapping[str, Matrix]) -> tuple[list[FoundModule], list[Undecided]]:
    """Join the uses of one recording.

    Args:
        uses: Modules of blocks with their roles.
        matrices: The matrices of the model that was recorded.

    Returns:
        The modules, and those whose rows are not all accounted for.

    Raises:
        UninferableArchitectureError: Rows play two roles.
    """
    kept = [use for use in uses if _matrix_path(use) in matrices]
    forms = _expert_forms(kept)
    found: dict[tuple[str, str], FoundModule] = {}
    runs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for use in kept:
        place = block_of(use.operation.path)
        assert place is not None  # uses are of blocks
        assert use.operation.place is not None  # and of modules with a parameter
        path = forms.get(use.operation.path, place.rest)
        parameter = use.operation.place.name if use.operation.place.is_stacked else None
        key = (place.root, path if parameter is None else f"{path}.{parameter}")
        if key not in found:
            weight = _weight(use, matrices[_matrix_path(use)])
            found[key] = FoundModule(root=place.root, path=path, parameter=parameter, weight=weight)
        _add(found[key], use)
        if place.layer == 0:
            runs[key].add(use.operation.number)
    return _complete(found, runs, matrices)


def _matrix_path(use: Use) -> str:
    place = use.operation.place
    if place is not None and place.is_stacked:
        return f"{place.module}.{place.name}"
    return use.operation.path


def _weight(use: Use, matrix: Matrix) -> str:
    if matrix.kind != "parameter":
        return "conv1d" if matrix.kind == "conv1d" else "linear"
    return "linear" if matrix.shape[1] == use.operation.features else "conv1d"


def _expert_forms(uses: Sequence[Use]) -> dict[str, str]:
    """Return the path inside a block, with ``{expert}``, of modules that play one role several times in a block."""
    groups: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for use in uses:
        place = block_of(use.operation.path)
        assert place is not None  # uses are of blocks
        groups[place.root, place.layer, use.role].add(place.rest)
    forms: dict[str, str] = {}
    for (root, layer, role), rests in groups.items():
        if len(rests) > 1:
            form = _common_form(rests)
            if form is None:
                raise refusal(f"{root}{layer}: {', '.join(sorted(rests))} all play {role}", role=role)
            forms |= {f"{root}{layer}.{rest}": form for rest in rests}
    return forms


def _common_form(paths: Iterable[str]) -> str | None:
    """Return the paths with ``{expert}`` for the one index in which they differ."""
    columns = list(zip(*(path.split(".") for path in paths), strict=False))
    parts = [column[0] if len(set(column)) == 1 else "{expert}" for column in columns]
    differing = [column for column in columns if len(set(column)) > 1]
    lengths = {path.count(".") for path in paths}
    is_indexed = len(differing) == 1 and all(part.isdecimal() for part in differing[0])
    return ".".join(parts) if is_indexed and len(lengths) == 1 else None


def _add(module: FoundModule, use: Use) -> None:
    if not use.rows:
        return
    held = module.rows.get(use.role, ())
    module.rows[use.role] = tuple(sorted({*held, *use.rows}))
    module.reasons.setdefault(use.role, use.reason)


def _complete(
    found: Mapping[tuple[str, str], FoundModule],
    runs: Mapping[tuple[str, str], set[int]],
    matrices: Mapping[str, Matrix],
) -> tuple[list[FoundModule], list[Undecided]]:
    modules, undecided = [], []
    for key, module in found.items():
        _sort_roles(module)
        module.layers = _layers(module, matrices)
        uses = len(runs[key]) or 1
        module.runs = uses if module.parameter is None and "{expert}" not in module.path else 1
        held = sum(len(rows) for rows in module.rows.values())
        total = _rows_of(module, matrices)
        if held == total:
            modules.append(module)
        else:
            reason = f"only {held} of its {total} rows play a role ({', '.join(module.rows)})"
            undecided.append(Undecided(what=f"{module.root}{{layer}}.{module.full_path}", reason=reason))
    return modules, undecided


def _sort_roles(module: FoundModule) -> None:
    module.rows = dict(sorted(module.rows.items(), key=lambda item: item[1][0]))
    owners: dict[int, str] = {}
    for role, rows in module.rows.items():
        for row in rows:
            if row in owners:
                what = f"{module.root}{{layer}}.{module.full_path}"
                raise refusal(f"{what}: row {row} is both {owners[row]} and {role}", module=what)
            owners[row] = role


def _layers(module: FoundModule, matrices: Mapping[str, Matrix]) -> tuple[int, ...]:
    layers = {place.layer for path in matrices if (place := block_of(path)) is not None and place.root == module.root}
    return tuple(layer for layer in sorted(layers) if module.path_in(layer) in matrices)


def _rows_of(module: FoundModule, matrices: Mapping[str, Matrix]) -> int:
    matrix = matrices[module.path_in(module.layers[0])]
    if matrix.kind == "parameter":
        return matrix.shape[1] if module.weight == "linear" else matrix.shape[2]
    return matrix.in_out[1]
