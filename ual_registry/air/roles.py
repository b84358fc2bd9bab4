"""The roles: what a target module does, and the shape that follows from the base model's dimensions.

The first seven names are those of the original role vocabulary; names never change once released (spec: roles).
An axis is named after the dimension that gives its length, so that shapes can be checked without a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ual_registry.air.model import Stack

__all__ = ["ROLES", "Axis", "Role", "axis_size"]


class Axis(StrEnum):
    """What the rows or columns of a weight stand for."""

    HIDDEN = "hidden"
    ENCODER_HIDDEN = "encoder_hidden"
    QUERY_HEADS = "query_heads"
    KEY_VALUE_HEADS = "key_value_heads"
    INTERMEDIATE = "intermediate"
    VOCABULARY = "vocabulary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The shape contract of one role.

    Attributes:
        name: The stored name.
        in_axis: What the module reads; the columns of ``lora_A``.
        out_axis: What the module writes; the rows of ``lora_B``.
        is_per_layer: Whether the module stands in every block, so that an entry has a layer.
        is_rotated: Whether rotary position embedding acts on the output, pairing its rows.
    """

    name: str
    in_axis: Axis
    out_axis: Axis
    is_per_layer: bool = True
    is_rotated: bool = False


def _table(*roles: Role) -> dict[str, Role]:
    return {role.name: role for role in roles}


ROLES: dict[str, Role] = _table(
    Role(name="attention_query", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS, is_rotated=True),
    Role(name="attention_key", in_axis=Axis.HIDDEN, out_axis=Axis.KEY_VALUE_HEADS, is_rotated=True),
    Role(name="attention_value", in_axis=Axis.HIDDEN, out_axis=Axis.KEY_VALUE_HEADS),
    Role(name="attention_output", in_axis=Axis.QUERY_HEADS, out_axis=Axis.HIDDEN),
    Role(name="mlp_up", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE),
    Role(name="mlp_down", in_axis=Axis.INTERMEDIATE, out_axis=Axis.HIDDEN),
    Role(name="mlp_gate", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE),
    Role(name="cross_attention_query", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS),
    Role(name="cross_attention_key", in_axis=Axis.ENCODER_HIDDEN, out_axis=Axis.KEY_VALUE_HEADS),
    Role(name="cross_attention_value", in_axis=Axis.ENCODER_HIDDEN, out_axis=Axis.KEY_VALUE_HEADS),
    Role(name="cross_attention_output", in_axis=Axis.QUERY_HEADS, out_axis=Axis.HIDDEN),
    Role(name="token_embedding", in_axis=Axis.VOCABULARY, out_axis=Axis.HIDDEN, is_per_layer=False),
    Role(name="lm_head", in_axis=Axis.HIDDEN, out_axis=Axis.VOCABULARY, is_per_layer=False),
)
"""Every role that this version knows, by name, in the order in which they are shown."""

_SIZES: dict[Axis, Callable[[Stack], int]] = {
    Axis.HIDDEN: lambda stack: stack.hidden_size,
    Axis.QUERY_HEADS: lambda stack: stack.num_attention_heads * stack.head_dim,
    Axis.KEY_VALUE_HEADS: lambda stack: stack.num_key_value_heads * stack.head_dim,
    Axis.INTERMEDIATE: lambda stack: stack.intermediate_size,
}


def axis_size(axis: Axis, stack: Stack, *, encoder: Stack, vocab_size: int) -> int:
    """Return the length of an axis in features.

    Args:
        axis: What the rows or columns stand for.
        stack: The stack that the entry belongs to.
        encoder: The stack that cross attention reads; the same one where there is only one.
        vocab_size: Rows of the token embedding.
    """
    if axis is Axis.VOCABULARY:
        return vocab_size
    if axis is Axis.ENCODER_HIDDEN:
        return encoder.hidden_size
    return _SIZES[axis](stack)
