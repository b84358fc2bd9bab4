"""The slots that a linear module fills, and which of its rows each slot holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ual_registry.air.model import BaseModel, Entry, RowSlice, Stack
from ual_registry.air.names import entry_place
from ual_registry.air.roles import ROLES, Axis, axis_size
from ual_registry.binders.model import Module
from ual_registry.errors import BinderDataError

__all__ = ["Slot", "TargetModule", "module_slots", "outer_slot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One (stack, layer, role, expert) of a base model.

    Attributes:
        stack: ``encoder``, ``decoder``, or ``None``.
        layer: Index of the block; ``None`` outside the blocks.
        role: A role name.
        expert: Index of the expert; ``None`` outside a mixture of experts.
        in_features: What the slot reads.
        out_features: What the slot writes.
        rows: Its rows in a fused module; ``None`` where the module is the slot.
    """

    stack: str | None
    layer: int | None
    role: str
    expert: int | None = None
    in_features: int
    out_features: int
    rows: RowSlice | None = None

    @property
    def all_rows(self) -> RowSlice:
        """Its rows in its module, whether or not the module is fused."""
        return self.rows or RowSlice.whole(self.out_features)

    def tensor_name(self, factor: str) -> str:
        """Return the name of the tensor that holds one of its factors (spec: tensors)."""
        return entry_place(self.stack, self.layer, self.role, self.expert) + factor

    def entry(self, *, source: str, lora_A: str, lora_B: str, rank: int, scaling: float) -> Entry:
        """Return the entry that fills the slot.

        Args:
            source: Path of its module.
            lora_A: Tensor name.
            lora_B: Tensor name.
            rank: Rows of ``lora_A``.
            scaling: The number that multiplies the product.
        """
        return Entry(
            stack=self.stack,
            layer=self.layer,
            role=self.role,
            expert=self.expert,
            in_features=self.in_features,
            out_features=self.out_features,
            rank=rank,
            scaling=scaling,
            lora_A=lora_A,
            lora_B=lora_B,
            source=source,
            slice=self.rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetModule:
    """A linear module of a base model and the slots it fills, in the order of its rows.

    Attributes:
        path: Its path; for a parameter of several experts the module's path and the parameter's name.
        slots: Its slots; those of a parameter are sorted by expert, and the rows of each are those of one expert.
        is_conv1d: Whether its weight is stored as (in, out), a parameter's as (experts, in, out).
        parameter: The name of the parameter that holds the matrices of all experts.
    """

    path: str
    slots: tuple[Slot, ...]
    is_conv1d: bool = False
    parameter: str | None = None

    @property
    def matrix(self) -> tuple[Slot, ...]:
        """The slots of one matrix: all of them, or those of the first expert where there is one for each."""
        return tuple(slot for slot in self.slots if slot.expert == self.slots[0].expert)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Features out and in of one matrix."""
        return sum(slot.out_features for slot in self.matrix), self.slots[0].in_features


def module_slots(module: Module, stack: Stack, base: BaseModel, layer: int, expert: int | None) -> Iterator[Slot]:
    """Yield the slots of a module of one block, in the order of its rows.

    Raises:
        BinderDataError: The stack lacks a dimension that a role needs, or the roles do not fit the layout.
    """
    whole = [_slot(role, stack, base, layer, expert) for role in module.roles]
    if len(whole) == 1:
        yield whole[0]
        return
    rows_of = _LAYOUTS[module.layout or "contiguous"]
    for index, slot in enumerate(whole):
        yield replace(slot, rows=rows_of(whole, index, stack))


def outer_slot(role: str, stack: Stack, base: BaseModel) -> Slot:
    """Return the slot of a module outside the blocks."""
    return _slot(role, stack, base, None, None)


def _slot(role_name: str, stack: Stack, base: BaseModel, layer: int | None, expert: int | None) -> Slot:
    role = ROLES[role_name]

    def size(axis: Axis) -> int:
        found = axis_size(axis, stack, encoder=base.encoder, vocab_size=base.vocab_size, has_expert=expert is not None)
        if found is None:
            raise BinderDataError(
                f"binder {base.architecture}: {role_name} needs a dimension for {axis.value}, which the stack lacks",
                context={"role": role_name, "axis": axis.value},
            )
        if found <= 0:
            raise BinderDataError(
                f"binder {base.architecture}: {role_name} has {found} features on {axis.value}",
                context={"role": role_name, "axis": axis.value},
            )
        return found

    return Slot(
        stack=stack.name,
        layer=layer,
        role=role_name,
        expert=expert,
        in_features=size(role.in_axis),
        out_features=size(role.out_axis),
    )


def _contiguous(slots: list[Slot], index: int, _: Stack) -> RowSlice:
    """[q | k | v]: one block per role, one after the other (GPT-2's c_attn)."""
    rows = slots[index].out_features
    return RowSlice(offset=sum(slot.out_features for slot in slots[:index]), block=rows, stride=rows, count=1)


def _per_head(slots: list[Slot], index: int, stack: Stack) -> RowSlice:
    """[head, (q, k, v), width]: one block per head and role (GPT-NeoX's query_key_value)."""
    return _blocks(slots, index, stack.num_attention_heads)


def _grouped(slots: list[Slot], index: int, stack: Stack) -> RowSlice:
    """[key-value head, (its queries, k, v), width]: one block per key-value head and role (Falcon's new form)."""
    return _blocks(slots, index, stack.num_key_value_heads)


def _interleaved(slots: list[Slot], index: int, _: Stack) -> RowSlice:
    """[row, (gate, up)]: the roles take turns row by row (GPT-OSS)."""
    return _blocks(slots, index, slots[index].out_features)


def _blocks(slots: list[Slot], index: int, count: int | None) -> RowSlice:
    """Cut every role into ``count`` blocks of equal width, which take turns."""
    if count is None or any(slot.out_features % count for slot in slots):
        sizes = ", ".join(f"{slot.role} {slot.out_features}" for slot in slots)
        raise BinderDataError(f"rows of a fused module ({sizes}) cannot be cut into {count} equal blocks each")
    widths = [slot.out_features // count for slot in slots]
    return RowSlice(offset=sum(widths[:index]), block=widths[index], stride=sum(widths), count=count)


_LAYOUTS: dict[str, Callable[[list[Slot], int, Stack], RowSlice]] = {
    "contiguous": _contiguous,
    "per_head": _per_head,
    "grouped": _grouped,
    "interleaved": _interleaved,
}
