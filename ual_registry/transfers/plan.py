"""What a transfer would do, entry by entry, before any number is touched and without torch.

Every entry of the source is kept, projected or dropped, and each drop has a reason. The layer map is driven by the
target: each target layer asks for one source layer, or for several whose updates are added up there (``layers``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ual_registry.air.model import BaseModel, Entry, Manifest, Stack
from ual_registry.air.roles import ROLES, Axis
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.counterpart import RoleMap, place_of
from ual_registry.binders.describe import describe_base, rotary_structure
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.errors import NoCounterpartError, TransferError
from ual_registry.transfers.layers import LayerChoice, LayerRule, StackLayers

__all__ = ["Action", "Move", "RotaryPolicy", "TransferPlan", "make_plan", "slot_label"]


class Action(StrEnum):
    """What becomes of an entry."""

    KEPT = "kept"
    PROJECTED = "projected"
    DROPPED = "dropped"


class RotaryPolicy(StrEnum):
    """What to do with query and key where rotary position embedding differs between the bases."""

    DROP = "drop"
    PROJECT = "project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One line of a plan.

    Attributes:
        source: The entry's label in the source, or the name of a tensor without a role.
        target: The slot's label in the target; ``None`` where it is dropped.
        action: What becomes of it.
        reason: Why.
        entry: The source entry; ``None`` for a tensor without a role.
        module: The target module; ``None`` where it is dropped.
        slot: The target slot; ``None`` where it is dropped.
        weight: What its update is multiplied with where several add up in one slot.
    """

    source: str
    target: str | None
    action: Action
    reason: str
    entry: Entry | None = None
    module: TargetModule | None = None
    slot: Slot | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPlan:
    """Every move, and the two base models.

    Attributes:
        source: The base model of the adapter.
        target: The base model to go to.
        layers: Source layer by target layer, for each stack name.
        rotary: The policy for query and key.
        moves: Kept and projected entries in the target's order, then dropped ones in the source's.
        rule: By what the layers were found.
        pools: All source layers of every target layer, for each stack name, where they are pooled; else empty.
    """

    source: BaseModel
    target: BaseModel
    layers: Mapping[str | None, tuple[int, ...]]
    rotary: RotaryPolicy
    moves: tuple[Move, ...]
    rule: LayerRule = LayerRule.PROPORTIONAL
    pools: Mapping[str | None, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    @property
    def is_same_config(self) -> bool:
        """Whether both base models have one config; what was trained on from a model has its config too."""
        return self.source.config_digest == self.target.config_digest

    def counts(self) -> dict[str, int]:
        """Return how many moves there are of each action."""
        found = Counter(str(move.action) for move in self.moves)
        return {str(action): found[str(action)] for action in Action}

    def drop_reasons(self) -> dict[str, int]:
        """Return how many moves are dropped for each reason, the most frequent first."""
        return dict(Counter(move.reason for move in self.moves if move.action is Action.DROPPED).most_common())


def make_plan(
    manifest: Manifest,
    target: BaseConfig,
    *,
    target_id: str | None = None,
    target_revision: str | None = None,
    rotary: RotaryPolicy | str = RotaryPolicy.DROP,
    layers: LayerChoice | None = None,
    source: BaseConfig | None = None,
) -> TransferPlan:
    """Plan the transfer of an adapter.

    Args:
        manifest: The adapter's manifest.
        target: The base model to go to.
        target_id: Its label; the name of its folder where absent.
        target_revision: Its commit, where known.
        rotary: What to do with query and key where rotary position embedding differs.
        layers: How the layers of both correspond; proportional, one for one, where absent.
        source: The config of the adapter's own base model, where it is at hand: how much of a head it rotates may
            differ from what is usual for its architecture.

    Raises:
        TransferError: The adapter holds what a projection would change the meaning of, there is no such policy, or the
            layers do not fit the two depths.
        NoCounterpartError: Nothing of it has a place in the target.
        BinderError: The target is unknown.
    """
    _refuse_what_cannot_be_projected(manifest)
    if rotary not in list(RotaryPolicy):
        known = ", ".join(RotaryPolicy)
        raise TransferError(f"rotary policy {str(rotary)!r}: expected one of {known}", code="unknown-rotary")
    policy = RotaryPolicy(rotary)
    binding = bind(target)
    base = describe_base(target, id=target_id, revision=target_revision)
    chosen = layers or LayerChoice()
    planner = _Planner(manifest, base, target, binding, rotary=policy, choice=chosen, source=source)
    moves = tuple(planner.moves())
    if all(move.action is Action.DROPPED for move in moves):
        reasons = "; ".join(dict.fromkeys(move.reason for move in moves))
        raise NoCounterpartError(
            f"no entry of the adapter has a place in {base.id}: {reasons}",
            context={"source": manifest.base_model.architecture, "target": base.architecture},
        )
    return TransferPlan(
        source=manifest.base_model,
        target=base,
        layers={name: stack.picks for name, stack in planner.stacks.items()},
        rotary=policy,
        moves=moves,
        rule=LayerRule(chosen.rule),
        pools={name: stack.pools for name, stack in planner.stacks.items() if stack.pools is not None},
    )


def _refuse_what_cannot_be_projected(manifest: Manifest) -> None:
    for feature, what in (("dora", "DoRA magnitudes"), ("lora-bias", "biases of lora_B")):
        if feature in manifest.features:
            raise TransferError(
                f"the adapter holds {what}, which cannot be projected",
                code="unsupported-feature",
                context={"feature": feature},
                hint="convert it to plain LoRA first (peft: save_as_lora)",
            )


def slot_label(slot: Slot) -> str:
    """Return a slot's place in words, as an entry's label."""
    return slot.tensor_name("lora_B").rpartition(".")[0]


class _Planner:
    """Looks up, for every slot of the target, the source entry that goes there, and why the others go nowhere."""

    def __init__(
        self,
        manifest: Manifest,
        base: BaseModel,
        target: BaseConfig,
        binding: Binding,
        *,
        rotary: RotaryPolicy,
        choice: LayerChoice,
        source: BaseConfig | None,
    ) -> None:
        self.manifest = manifest
        self.base = base
        self.entries = {(entry.stack, entry.layer, entry.role, entry.expert): entry for entry in manifest.entries}
        self.slots = binding.slots()
        self.roles = RoleMap(base, (slot for _, slot in self.slots.values()))
        self.is_same_base = base.config_digest == manifest.base_model.config_digest
        own, other = rotary_structure(manifest.base_model, source), rotary_structure(base, target)
        is_alike = own == other or own.rotated == other.rotated == 0
        self.drops_rotated = not is_alike and rotary is RotaryPolicy.DROP and not self.is_same_base
        self.stacks = {stack.name: self._layers(choice, stack) for stack in base.stacks}

    def _layers(self, choice: LayerChoice, target: Stack) -> StackLayers:
        stack = self.manifest.base_model.stack(target.name)
        return choice.of_stack(target.name, stack.num_layers, target.num_layers) if stack else StackLayers()

    def moves(self) -> Iterator[Move]:
        """Yield the entries that have a place in the target's order, then the dropped ones in the source's."""
        used = set()
        for module, slot in self.slots.values():
            found = list(self._entries(slot))
            for entry, weight in found:
                used.add(entry.key)
                yield self._move(entry, module, slot, weight, is_alone=len(found) == 1)
        for entry in self.manifest.entries:
            if entry.key not in used:
                reason = self._obstacle(entry) or "the layer map picks other layers"
                yield Move(source=entry.label, target=None, action=Action.DROPPED, reason=reason, entry=entry)
        for extra in self.manifest.extra:
            reason = "a tensor without a role cannot be projected"
            yield Move(source=extra.name, target=None, action=Action.DROPPED, reason=reason)

    def _entries(self, slot: Slot) -> Iterator[tuple[Entry, float]]:
        """Yield the entries that go to a slot, each with its weight."""
        stack = self.stacks.get(slot.stack)
        sources = stack.sources(slot.layer) if stack and slot.layer is not None else ((None, 1.0),)
        for layer, weight in sources:
            entry = self.entries.get((slot.stack, layer, slot.role, slot.expert))
            if entry is not None and self._obstacle(entry) is None:
                yield entry, weight

    def _move(self, entry: Entry, module: TargetModule, slot: Slot, weight: float, *, is_alone: bool) -> Move:
        is_alike = (entry.in_features, entry.out_features) == (slot.in_features, slot.out_features)
        is_kept = is_alike and is_alone and weight == 1.0
        shapes = "same shape" if is_alike else f"{_shape(entry)} to {_shape(slot)}"
        return Move(
            source=entry.label,
            target=slot_label(slot),
            action=Action.KEPT if is_kept else Action.PROJECTED,
            reason=shapes + ("" if is_alone else ", added to others") + ("" if weight == 1.0 else ", shared out"),
            entry=entry,
            module=module,
            slot=slot,
            weight=weight,
        )

    def _obstacle(self, entry: Entry) -> str | None:
        """Say why an entry cannot go to the target in any layer; ``None`` where it can."""
        source = self.manifest.base_model.stack(entry.stack)
        assert source is not None  # a legal manifest has the stacks of its entries
        obstacle = self.roles.obstacle(source, place_of(entry.stack, entry.role, entry.expert))
        if obstacle is not None:
            return obstacle
        role = ROLES[entry.role]
        if Axis.VOCABULARY in (role.in_axis, role.out_axis) and not self.is_same_base:
            return "the rows of two vocabularies do not correspond"
        if role.is_rotated and self.drops_rotated:
            return "rotary position embedding differs between the bases"
        return None


def _shape(item: Entry | Slot) -> str:
    return f"({item.out_features}, {item.in_features})"
