"""What of the source reached each layer and role of a carried adapter, as its own provenance says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ual_registry.air.model import Manifest, Statement
from ual_registry.air.roles import ROLES
from ual_registry.transfers.report import LOST_ROLES_KEY

__all__ = ["CarriedEnergy", "carried_energy"]

_PROJECTION = "projection"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedEnergy:
    """Shares of energy by role and layer.

    Attributes:
        method: How the adapter was carried.
        layers: The layers, ascending; those of a second stack follow the first, with its name before them.
        roles: The roles, in the order of the specification; those that have no place in the target among them.
        shares: For each role and layer the share (0..1) of the source's energy that reached it, in the layout of
            ``roles`` by ``layers``; NaN where the target got nothing.
    """

    method: str
    layers: tuple[str, ...]
    roles: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


def carried_energy(manifest: Manifest) -> CarriedEnergy | None:
    """Return the shares of the newest transfer that an adapter went through; ``None`` where it went through none.

    Layers between the first and the last that got nothing are in it. Experts of one layer count with their mean.
    """
    statement = next((own for own in reversed(manifest.provenance) if own.type == _PROJECTION), None)
    found = {} if statement is None else _by_place(manifest, statement)
    if statement is None or not found:
        return None
    layers = _layers(manifest)
    noted = statement.annotations.get(LOST_ROLES_KEY)
    lost = noted if isinstance(noted, tuple) else ()  # a remark of another program may be anything
    roles = [role for role in ROLES if role in lost or any(own == role for own, _ in found)]
    return CarriedEnergy(
        method=str(statement.parameters.get("method", "unknown method")),
        layers=tuple(name for _, _, name in layers),
        roles=tuple(roles),
        shares=tuple(
            tuple(_mean(found.get((role, (stack, layer)), [])) for stack, layer, _ in layers) for role in roles
        ),
    )


_Place = tuple[str, tuple[str | None, int]]


def _by_place(manifest: Manifest, statement: Statement) -> dict[_Place, list[float]]:
    """Return the shares of every role of every layer; entries outside the layers have no place in it."""
    measured = statement.byproducts.get("entries", {})
    found: dict[_Place, list[float]] = {}
    for entry in manifest.entries:
        share = measured.get(entry.label, {}).get("energy_kept")
        if entry.layer is not None and isinstance(share, (int, float)):
            found.setdefault((entry.role, (entry.stack, entry.layer)), []).append(float(share))
    return found


def _layers(manifest: Manifest) -> list[tuple[str | None, int, str]]:
    """Return stack, layer and name of every layer of the base model."""
    return [
        (stack.name, layer, str(layer) if stack.name is None else f"{stack.name} {layer}")
        for stack in manifest.base_model.stacks
        for layer in range(stack.num_layers)
    ]


def _mean(shares: list[float]) -> float:
    return sum(shares) / len(shares) if shares else math.nan
