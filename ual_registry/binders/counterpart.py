"""Which roles of one base model have a counterpart in another, and why the others have none.

Rules on two descriptions: no file is read, no number is touched. What two bases call differently is the same here, so
what is left are differences of structure: a missing gate, shared blocks, compressed keys and values, experts. Experts
are numbered as their training left them, so they correspond only between mixtures of the very same dimensions, such as
a model and its fine-tuned sibling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ual_registry.air.model import BaseModel, Stack
from ual_registry.air.roles import ROLES
from ual_registry.binders.slots import Slot

__all__ = ["Counterpart", "Place", "RoleMap", "counterparts", "place_of"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """Where a role stands, whatever the layer: in which stack, and whether an expert plays it."""

    stack: str
    role: str
    has_expert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """A place of the source: ``obstacle`` is ``None`` where the target has the same, else why it has none."""

    place: Place
    obstacle: str | None


_LATENT = {"latent_query_down", "latent_query_up", "latent_key_value_down", "latent_key_rotary"}
_LATENT |= {"latent_key_up", "latent_value_up"}
_DIRECT = {"attention_query", "attention_key", "attention_value"}
_MEANINGS = {
    "mlp_gate": "the target's MLP has no gate",
    "moe_router": "the target has no experts to route to",
    **dict.fromkeys(_LATENT, "the target has no latent attention"),
    **{f"shared_mlp_{part}": "the target has no shared expert" for part in ("up", "down", "gate", "router")},
    **{f"cross_attention_{part}": "the target has no cross attention" for part in ("query", "key", "value", "output")},
}


class RoleMap:
    """The places that a target base model has, and the question whether something of a source fits there.

    Args:
        base: The target.
        slots: Its slots.
    """

    def __init__(self, base: BaseModel, slots: Iterable[Slot]) -> None:
        self.base = base
        self.places = frozenset(place_of(slot.stack, slot.role, slot.expert) for slot in slots)

    def obstacle(self, source: Stack, place: Place) -> str | None:
        """Say why a place of the source has no counterpart here; ``None`` where it has one.

        Args:
            source: The stack of the source in which the place is.
            place: The place.
        """
        target = self.base.stack(source.name)
        if target is None:
            return f"the target has no stack {source.name!r}" if source.name else "the target has two stacks"
        if place not in self.places:
            return self._absence(place)
        if place.has_expert and source != target:
            return "the experts of two different mixtures do not correspond"
        if ROLES[place.role].is_per_layer and (source.layer_repeats or 1) != (target.layer_repeats or 1):
            return f"shared blocks: the source applies each block {_times(source)}, the target {_times(target)}"
        return None

    def _absence(self, place: Place) -> str:
        other = Place(stack=place.stack, role=place.role, has_expert=not place.has_expert)
        if other in self.places:
            return f"the target has {place.role} {'outside' if place.has_expert else 'only inside'} its experts"
        if place.has_expert:
            return "the target has no experts"
        if place.role in _DIRECT and any(held.role in _LATENT for held in self.places):
            return f"the target has latent attention, which compresses what {place.role} would write"
        return _MEANINGS.get(place.role, f"the target has no {place.role}")


def _times(stack: Stack) -> str:
    repeats = stack.layer_repeats or 1
    return "once" if repeats == 1 else f"{repeats} times"


def place_of(stack: str | None, role: str, expert: int | None) -> Place:
    """Return the place of a slot or an entry."""
    return Place(stack=stack or "", role=role, has_expert=expert is not None)


def counterparts(
    source: BaseModel, source_slots: Iterable[Slot], target: BaseModel, target_slots: Iterable[Slot]
) -> tuple[Counterpart, ...]:
    """Return every place of the source with its counterpart in the target, or why it has none, sorted."""
    held = RoleMap(target, target_slots)
    places = sorted({place_of(slot.stack, slot.role, slot.expert) for slot in source_slots})
    stacks = {stack.name or "": stack for stack in source.stacks}
    return tuple(Counterpart(place=place, obstacle=held.obstacle(stacks[place.stack], place)) for place in places)
