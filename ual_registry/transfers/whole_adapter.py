"""Updates that come from a whole adapter and not from one of its entries: where they go, and how they are named."""

from __future__ import annotations

from collections.abc import Collection

from ual_registry.binders.slots import TargetModule
from ual_registry.errors import NoCounterpartError
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.plan import Action, Move, slot_label

__all__ = ["WHOLE", "modules_of_role", "updated_modules", "whole_move"]

WHOLE = "whole adapter"
"""What the result's entries come from, in place of an entry of the source."""


def modules_of_role(target: LoadedBase, role: str) -> dict[int, TargetModule]:
    """Return the modules that fill a role and nothing else, by layer; experts are left out.

    Args:
        target: The base model.
        role: The role.
    """
    found: dict[int, TargetModule] = {}
    for module in target.binding.modules.values():
        slot = module.slots[0]
        if slot.layer is not None and len(module.slots) == 1 and slot.role == role and slot.expert is None:
            found[slot.layer] = module
    return dict(sorted(found.items()))


def updated_modules(target: LoadedBase, role: str, layers: Collection[int] | None) -> dict[int, TargetModule]:
    """Return the modules of a role that are to get an update, by layer.

    Args:
        target: The base model.
        role: The role.
        layers: Which layers; all that have such a module where absent.

    Raises:
        NoCounterpartError: A layer has no such module, or there is none at all.
    """
    known = modules_of_role(target, role)
    wanted = sorted(known if layers is None else set(layers))
    missing = [layer for layer in wanted if layer not in known]
    if missing or not wanted:
        where = f" in layers {missing}" if missing else ""
        raise NoCounterpartError(
            f"base model {target.base.id} has no {role}{where} that could get an update",
            context={"target": target.base.id, "role": role},
            hint="choose another role or other layers",
        )
    return {layer: known[layer] for layer in wanted}


def whole_move(module: TargetModule, reason: str) -> Move:
    """Return the move of a module that gets an update from the whole adapter.

    Args:
        module: The module.
        reason: Why.
    """
    slot = module.slots[0]
    return Move(source=WHOLE, target=slot_label(slot), action=Action.PROJECTED, reason=reason, module=module, slot=slot)
