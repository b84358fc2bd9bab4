"""The role table: names that never change, and the shapes that follow from the dimensions."""

from __future__ import annotations

from tests.handmade import base_model, small_adapter
from ual_registry.air.model import BaseModel, Lineage, Parent, RowSlice, Stack
from ual_registry.air.roles import ROLES, axis_size
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


def test_every_role_has_its_shape_in_a_decoder_that_reads_an_encoder() -> None:
    found = {
        name: tuple(axis_size(axis, DECODER, encoder=ENCODER, vocab_size=99) for axis in (role.in_axis, role.out_axis))
        for name, role in ROLES.items()
    }
    assert found == {
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
    }
    assert [name for name, role in ROLES.items() if role.is_rotated] == ["attention_query", "attention_key"]
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
