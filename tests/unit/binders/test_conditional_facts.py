"""What a binder says only of some models: ways under a condition, rotary embedding, modules of one model type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import apply_binder, bind
from ual_registry.binders.describe import RotaryStructure, describe_base, rotary_structure
from ual_registry.binders.load import decode_binder
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError


def config(**fields: Any) -> BaseConfig:
    return BaseConfig(label="tiny", document=fields, digest=Digest.of_bytes(b""))


def falcon(**fields: Any) -> BaseConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 64}
    return config(model_type="falcon", **{**sizes, **fields})


@pytest.mark.parametrize(
    ("fields", "key_value_heads"),
    [
        ({}, 1),
        ({"num_kv_heads": 4}, 1),
        ({"multi_query": False}, 4),
        ({"multi_query": False, "num_kv_heads": 2}, 4),
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"new_decoder_architecture": True}, 4),
    ],
    ids=str,
)
def test_a_way_under_a_condition_counts_only_where_it_holds(fields: dict[str, Any], key_value_heads: int) -> None:
    assert describe_base(falcon(**fields)).stacks[0].num_key_value_heads == key_value_heads


def test_a_way_under_a_condition_is_passed_over_and_named_where_no_other_is_left() -> None:
    ways = [{"when": [{"field": "is_wide", "values": [True]}, "width"]}]
    binder = decode_binder(json.dumps(own_binder(ways)).encode(), what="own.json")

    assert apply_binder(binder, config(model_type="own", width=8, is_wide=True)).base.stacks[0].hidden_size == 8
    with pytest.raises(BinderDataError) as caught:
        apply_binder(binder, config(model_type="own", width=8))
    assert caught.value.message.startswith("config of tiny: no positive number for hidden_size (tried {'when': ")


@pytest.mark.parametrize("way", [{"when": ["width", 8]}, {"when": [{"field": "a", "values": [1]}]}], ids=str)
def test_a_way_under_anything_but_a_condition_is_refused(way: dict[str, Any]) -> None:
    with pytest.raises(BinderDataError):
        decode_binder(json.dumps(own_binder([way])).encode(), what="own.json")


@pytest.mark.parametrize(
    ("alibi", "structure"),
    [
        (False, RotaryStructure(style="half", head_dim=8, rotated=8)),
        (True, RotaryStructure(style="none", head_dim=8, rotated=0)),
    ],
)
def test_rotary_embedding_under_a_condition_is_none_elsewhere(*, alibi: bool, structure: RotaryStructure) -> None:
    base = falcon(alibi=alibi)
    assert rotary_structure(describe_base(base), base) == structure


def test_a_module_without_a_role_in_one_model_type_has_one_in_another() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 64}
    plain = bind(config(model_type="gpt_neox", intermediate_size=40, **sizes))
    japanese = bind(config(model_type="gpt_neox_japanese", **sizes))

    assert plain.knows("embed_out")
    assert "embed_out" not in plain.modules
    assert [slot.role for slot in japanese.modules["embed_out"].slots] == ["lm_head"]
    assert not japanese.knows("lm_head")


def own_binder(hidden_size: list[Any]) -> dict[str, Any]:
    return {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": {"own": {"default_class": "OwnModel", "classes": {"": ["OwnModel"]}}},
        "vocab_size": [64],
        "rotary": {"style": "none"},
        "norms": {"kind": "rms", "position": "pre"},
        "stacks": [
            {
                "path": "blocks.{layer}.",
                "dimensions": {"hidden_size": hidden_size, "num_layers": [1], "intermediate_size": [5]},
                "modules": [{"path": "up", "roles": ["mlp_up"]}],
            }
        ],
        "outer": [],
        "without_role": [],
    }
