"""The role table: names that never change, and the shapes that follow from the dimensions."""

from __future__ import annotations

from tests.handmade import base_model, small_adapter
from ual_registry.air.model import BaseModel, Lineage, Parent, RowSlice, Stack
from ual_registry.air.roles import ROLES, Axis, axis_size
from ual_registry.air.schema import load_schema
from ual_registry.air.versions import is_newer_minor, parse_version, supported_versions

ENCODER = Stack(
    name="encoder",
    hidden_size=10,
    num_layers=1,
    num_attention_heads=6,
    num_key_value_heads=3,
    head_dim=7,
    intermediate_size=11,
)
DECODER = Stack(
    name="decoder",
    hidden_size=20,
    num_layers=1,
    num_attention_heads=5,
    num_key_value_heads=2,
    head_dim=3,
    intermediate_size=13,
)


EVERYTHING = Stack(
    hidden_size=20,
    num_layers=1,
    num_attention_heads=5,
    num_key_value_heads=2,
    head_dim=7,
    intermediate_size=13,
    value_head_dim=3,
    rotary_head_dim=4,
    embedding_size=16,
    num_experts=8,
    expert_intermediate_size=11,
    shared_intermediate_size=12,
    query_latent_size=17,
    key_value_latent_size=18,
    state_size=23,
    time_step_rank=24,
    layer_repeats=6,
)


def _shapes(stack: Stack, *, encoder: Stack, has_expert: bool = False) -> dict[str, tuple[int | None, ...]]:
    return {
        name: tuple(
            axis_size(axis, stack, encoder=encoder, vocab_size=99, has_expert=has_expert)
            for axis in (role.in_axis, role.out_axis)
        )
        for name, role in ROLES.items()
    }


def test_every_role_has_its_shape_in_a_stack_of_every_dimension() -> None:
    found = _shapes(EVERYTHING, encoder=ENCODER)
    assert found == {
        "attention_query": (20, 35),
        "attention_key": (20, 14),
        "attention_value": (20, 6),
        "attention_output": (15, 20),
        "mlp_up": (20, 13),
        "mlp_down": (13, 20),
        "mlp_gate": (20, 13),
        "cross_attention_query": (20, 35),
        "cross_attention_key": (10, 14),
        "cross_attention_value": (10, 6),
        "cross_attention_output": (15, 20),
        "token_embedding": (99, 16),
        "lm_head": (16, 99),
        "moe_router": (20, 8),
        "shared_mlp_up": (20, 12),
        "shared_mlp_down": (12, 20),
        "shared_mlp_gate": (20, 12),
        "shared_mlp_router": (20, 1),
        "latent_query_down": (20, 17),
        "latent_query_up": (17, 35),
        "latent_key_value_down": (20, 18),
        "latent_key_rotary": (20, 4),
        "latent_key_up": (18, 6),
        "latent_value_up": (18, 6),
        "attention_position_query": (20, 35),
        "attention_position_key": (20, 35),
        "state_space_in": (20, 13),
        "state_space_gate": (20, 13),
        "state_space_step_down": (13, 24),
        "state_space_input": (13, 23),
        "state_space_output": (13, 23),
        "state_space_step_up": (24, 13),
        "state_space_out": (13, 20),
    }
    experts = {"mlp_up": (20, 11), "mlp_down": (11, 20), "mlp_gate": (20, 11)}
    of_experts = _shapes(EVERYTHING, encoder=ENCODER, has_expert=True)
    assert {name: of_experts[name] for name, role in ROLES.items() if role.has_experts} == experts


def test_a_role_without_its_dimension_has_no_size() -> None:
    few = Stack(hidden_size=20, num_layers=1)
    lacking = {
        name: tuple(20 if axis is Axis.HIDDEN else None for axis in (role.in_axis, role.out_axis))
        for name, role in ROLES.items()
    }
    known = {
        "cross_attention_key": (10, None),
        "cross_attention_value": (10, None),
        "token_embedding": (99, 20),
        "lm_head": (20, 99),
        "shared_mlp_router": (20, 1),
    }
    assert _shapes(few, encoder=ENCODER) == {**lacking, **known}


def test_experts_are_as_wide_as_the_mlp_where_they_have_no_width_of_their_own() -> None:
    assert _shapes(DECODER, encoder=ENCODER, has_expert=True)["mlp_up"] == (20, 13)


def test_every_role_has_its_shape_in_a_decoder_that_reads_an_encoder() -> None:
    known = {name: shape for name, shape in _shapes(DECODER, encoder=ENCODER).items() if None not in shape}
    assert known == {
        "attention_query": (20, 15),
        "attention_key": (20, 6),
        "attention_value": (20, 6),
        "attention_output": (15, 20),
        "mlp_up": (20, 13),
        "mlp_down": (13, 20),
        "mlp_gate": (20, 13),
        "cross_attention_query": (20, 15),
        "cross_attention_key": (10, 6),
        "cross_attention_value": (10, 6),
        "cross_attention_output": (15, 20),
        "token_embedding": (99, 20),
        "lm_head": (20, 99),
        "shared_mlp_router": (20, 1),
        "attention_position_query": (20, 15),
        "attention_position_key": (20, 15),
        "state_space_in": (20, 13),
        "state_space_gate": (20, 13),
        "state_space_out": (13, 20),
    }


def test_roles_say_where_they_stand_and_what_acts_on_them() -> None:
    rotated = ["attention_query", "attention_key", "latent_query_up", "latent_key_rotary"]
    assert [name for name, role in ROLES.items() if role.is_rotated] == rotated
    assert [name for name, role in ROLES.items() if role.has_experts] == ["mlp_up", "mlp_down", "mlp_gate"]
    assert [name for name, role in ROLES.items() if not role.is_per_layer] == ["token_embedding", "lm_head"]


def test_the_schemas_know_the_same_roles() -> None:
    reference = {"$ref": "urn:ual-registry:schemas/1.0/common.json#/$defs/role"}
    assert load_schema("1.0/common.json")["$defs"]["role"]["enum"] == list(ROLES)
    assert load_schema("1.0/entry.json")["properties"]["role"] == reference
    assert load_schema("1.0/binder.json")["$defs"]["role"] == reference


def test_a_base_model_finds_its_stacks_by_name() -> None:
    both = BaseModel(
        id="x", architecture="t5", model_type="t5", config_digest="", vocab_size=9, stacks=(ENCODER, DECODER)
    )
    assert (both.stack("decoder"), both.stack(None), both.encoder) == (DECODER, None, ENCODER)
    one = base_model()
    assert (one.stack(None), one.stack("encoder"), one.encoder) == (one.stacks[0], None, one.stacks[0])


def test_a_manifest_without_lineage_has_no_parents() -> None:
    parent = Parent(digest="d", relation="merged_from")
    assert small_adapter().manifest.parents == ()
    assert small_adapter(lineage=Lineage(parents=(parent,))).manifest.parents == (parent,)


def test_a_slice_counts_its_rows() -> None:
    rows = RowSlice(offset=2, block=3, stride=9, count=2)
    assert (rows.rows, list(rows.runs())) == (6, [(2, 3), (11, 3)])


def test_versions_are_compared_by_number() -> None:
    assert [is_newer_minor(text) for text in ("1.0", "1.1", "1.10", "2.1", "0.9")] == [False, True, True, False, False]
    assert parse_version("12.345") == (12, 345)
    assert supported_versions() == "1.x (writes 1.0)"
