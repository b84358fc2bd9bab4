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
    VALUE_HEADS = "value_heads"
    ATTENDED_HEADS = "attended_heads"
    INTERMEDIATE = "intermediate"
    VOCABULARY = "vocabulary"
    EMBEDDING = "embedding"
    EXPERTS = "experts"
    SHARED_INTERMEDIATE = "shared_intermediate"
    ONE = "one"
    QUERY_LATENT = "query_latent"
    KEY_VALUE_LATENT = "key_value_latent"
    ROTARY_KEY = "rotary_key"
    UNROTATED_KEY_HEADS = "unrotated_key_heads"
    STATE = "state"
    TIME_STEP = "time_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The shape contract of one role.

    Attributes:
        name: The stored name.
        in_axis: What the module reads; the columns of ``lora_A``.
        out_axis: What the module writes; the rows of ``lora_B``.
        is_per_layer: Whether the module stands in every block, so that an entry has a layer.
        is_rotated: Whether rotary position embedding acts on the output, pairing its rows.
        has_experts: Whether a block can hold the module once for each expert of a mixture.
    """

    name: str
    in_axis: Axis
    out_axis: Axis
    is_per_layer: bool = True
    is_rotated: bool = False
    has_experts: bool = False


def _table(*roles: Role) -> dict[str, Role]:
    return {role.name: role for role in roles}


ROLES: dict[str, Role] = _table(
    Role(name="attention_query", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS, is_rotated=True),
    Role(name="attention_key", in_axis=Axis.HIDDEN, out_axis=Axis.KEY_VALUE_HEADS, is_rotated=True),
    Role(name="attention_value", in_axis=Axis.HIDDEN, out_axis=Axis.VALUE_HEADS),
    Role(name="attention_output", in_axis=Axis.ATTENDED_HEADS, out_axis=Axis.HIDDEN),
    Role(name="mlp_up", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE, has_experts=True),
    Role(name="mlp_down", in_axis=Axis.INTERMEDIATE, out_axis=Axis.HIDDEN, has_experts=True),
    Role(name="mlp_gate", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE, has_experts=True),
    Role(name="cross_attention_query", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS),
    Role(name="cross_attention_key", in_axis=Axis.ENCODER_HIDDEN, out_axis=Axis.KEY_VALUE_HEADS),
    Role(name="cross_attention_value", in_axis=Axis.ENCODER_HIDDEN, out_axis=Axis.VALUE_HEADS),
    Role(name="cross_attention_output", in_axis=Axis.ATTENDED_HEADS, out_axis=Axis.HIDDEN),
    Role(name="token_embedding", in_axis=Axis.VOCABULARY, out_axis=Axis.EMBEDDING, is_per_layer=False),
    Role(name="lm_head", in_axis=Axis.EMBEDDING, out_axis=Axis.VOCABULARY, is_per_layer=False),
    Role(name="moe_router", in_axis=Axis.HIDDEN, out_axis=Axis.EXPERTS),
    Role(name="shared_mlp_up", in_axis=Axis.HIDDEN, out_axis=Axis.SHARED_INTERMEDIATE),
    Role(name="shared_mlp_down", in_axis=Axis.SHARED_INTERMEDIATE, out_axis=Axis.HIDDEN),
    Role(name="shared_mlp_gate", in_axis=Axis.HIDDEN, out_axis=Axis.SHARED_INTERMEDIATE),
    Role(name="shared_mlp_router", in_axis=Axis.HIDDEN, out_axis=Axis.ONE),
    Role(name="latent_query_down", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_LATENT),
    Role(name="latent_query_up", in_axis=Axis.QUERY_LATENT, out_axis=Axis.QUERY_HEADS, is_rotated=True),
    Role(name="latent_key_value_down", in_axis=Axis.HIDDEN, out_axis=Axis.KEY_VALUE_LATENT),
    Role(name="latent_key_rotary", in_axis=Axis.HIDDEN, out_axis=Axis.ROTARY_KEY, is_rotated=True),
    Role(name="latent_key_up", in_axis=Axis.KEY_VALUE_LATENT, out_axis=Axis.UNROTATED_KEY_HEADS),
    Role(name="latent_value_up", in_axis=Axis.KEY_VALUE_LATENT, out_axis=Axis.VALUE_HEADS),
    Role(name="attention_position_query", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS),
    Role(name="attention_position_key", in_axis=Axis.HIDDEN, out_axis=Axis.QUERY_HEADS),
    Role(name="state_space_in", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE),
    Role(name="state_space_gate", in_axis=Axis.HIDDEN, out_axis=Axis.INTERMEDIATE),
    Role(name="state_space_step_down", in_axis=Axis.INTERMEDIATE, out_axis=Axis.TIME_STEP),
    Role(name="state_space_input", in_axis=Axis.INTERMEDIATE, out_axis=Axis.STATE),
    Role(name="state_space_output", in_axis=Axis.INTERMEDIATE, out_axis=Axis.STATE),
    Role(name="state_space_step_up", in_axis=Axis.TIME_STEP, out_axis=Axis.INTERMEDIATE),
    Role(name="state_space_out", in_axis=Axis.INTERMEDIATE, out_axis=Axis.HIDDEN),
)
"""Every role that this version knows, by name, in the order in which they are shown."""


def _product(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one * other


def _unrotated_width(stack: Stack) -> int | None:
    """Return the width of the part of a head that rotary embedding leaves alone."""
    if stack.head_dim is None or stack.rotary_head_dim is None:
        return None
    return stack.head_dim - stack.rotary_head_dim


_SIZES: dict[Axis, Callable[[Stack], int | None]] = {
    Axis.HIDDEN: lambda stack: stack.hidden_size,
    Axis.QUERY_HEADS: lambda stack: _product(stack.num_attention_heads, stack.head_dim),
    Axis.KEY_VALUE_HEADS: lambda stack: _product(stack.num_key_value_heads, stack.head_dim),
    Axis.VALUE_HEADS: lambda stack: _product(stack.num_key_value_heads, stack.value_head_dim or stack.head_dim),
    Axis.ATTENDED_HEADS: lambda stack: _product(stack.num_attention_heads, stack.value_head_dim or stack.head_dim),
    Axis.INTERMEDIATE: lambda stack: stack.intermediate_size,
    Axis.EMBEDDING: lambda stack: stack.embedding_size or stack.hidden_size,
    Axis.EXPERTS: lambda stack: stack.num_experts,
    Axis.SHARED_INTERMEDIATE: lambda stack: stack.shared_intermediate_size,
    Axis.ONE: lambda stack: 1,
    Axis.QUERY_LATENT: lambda stack: stack.query_latent_size,
    Axis.KEY_VALUE_LATENT: lambda stack: stack.key_value_latent_size,
    Axis.ROTARY_KEY: lambda stack: stack.rotary_head_dim,
    Axis.UNROTATED_KEY_HEADS: lambda stack: _product(stack.num_key_value_heads, _unrotated_width(stack)),
    Axis.STATE: lambda stack: stack.state_size,
    Axis.TIME_STEP: lambda stack: stack.time_step_rank,
}


def axis_size(axis: Axis, stack: Stack, *, encoder: Stack, vocab_size: int, has_expert: bool = False) -> int | None:
    """Return the length of an axis in features; ``None`` where the stack lacks a dimension that it needs.

    Args:
        axis: What the rows or columns stand for.
        stack: The stack that the entry belongs to.
        encoder: The stack that cross attention reads; the same one where there is only one.
        vocab_size: Rows of the token embedding.
        has_expert: Whether the module is one expert's, whose width may differ from the dense MLP's.
    """
    if axis is Axis.VOCABULARY:
        return vocab_size
    if axis is Axis.ENCODER_HIDDEN:
        return encoder.hidden_size
    if axis is Axis.INTERMEDIATE and has_expert:
        return stack.expert_intermediate_size or stack.intermediate_size
    return _SIZES[axis](stack)
