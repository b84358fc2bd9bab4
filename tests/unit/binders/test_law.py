"""The law of binders finds every way to break it, in a binder and in a binding."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ual_registry.air.model import RowSlice
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, apply_binder, bind
from ual_registry.binders.law import law_faults
from ual_registry.binders.load import decode_binder
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest


def config(**fields: Any) -> BaseConfig:
    return BaseConfig(label="tiny", document=fields, digest=Digest.of_bytes(b""))


SIZES = {"hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 8}
LLAMA = config(model_type="llama", intermediate_size=5, **SIZES)


def of_modules(*modules: dict[str, Any], without_role: Iterable[str] = ()) -> Binding:
    document = {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": {"own": {"default_class": "OwnModel", "classes": {"": ["OwnModel"]}}},
        "vocab_size": [8],
        "rotary": {"style": "none"},
        "norms": {"kind": "rms", "position": "pre"},
        "stacks": [
            {
                "path": "blocks.{layer}.",
                "dimensions": {"hidden_size": [4], "num_layers": [1], "intermediate_size": [5], "num_experts": [2]},
                "modules": list(modules),
            }
        ],
        "outer": [],
        "without_role": list(without_role),
    }
    return apply_binder(decode_binder(json.dumps(document).encode(), what="own.json"), config(model_type="own"))


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "bert", "mixtral"])
def test_a_right_binding_has_no_fault(model_type: str) -> None:
    document = {"model_type": model_type, "intermediate_size": 5, "num_local_experts": 3, **SIZES}
    assert law_faults(bind(config(**document))) == ()


def test_a_slot_that_two_modules_fill_is_told() -> None:
    found = of_modules({"path": "up", "roles": ["mlp_up"]}, {"path": "also_up", "roles": ["mlp_up"]})
    assert law_faults(found) == ("2 modules fill one slot: the stack, layer 0, mlp_up",)


def test_a_slot_that_two_modules_of_an_expert_fill_is_told_with_the_expert() -> None:
    found = of_modules(
        {"path": "experts.{expert}.up", "roles": ["mlp_up"]}, {"path": "more.{expert}.up", "roles": ["mlp_up"]}
    )
    assert law_faults(found) == (
        "2 modules fill one slot: the stack, layer 0, mlp_up, expert 0",
        "2 modules fill one slot: the stack, layer 0, mlp_up, expert 1",
    )


def test_a_slot_of_a_named_stack_that_two_modules_fill_is_told_with_its_name() -> None:
    binding = bind(config(model_type="t5", d_model=4, num_layers=1, num_heads=2, d_kv=2, d_ff=5, vocab_size=8))
    path = "encoder.block.0.layer.0.SelfAttention.q"
    modules = {**binding.modules, "extra": replace(binding.modules[path], path="extra")}
    assert law_faults(replace(binding, modules=modules)) == (
        "2 modules fill one slot: encoder, layer 0, attention_query",
    )


def test_a_module_with_a_role_that_stands_in_without_role_is_told() -> None:
    found = of_modules({"path": "up", "roles": ["mlp_up"]}, without_role=["blocks.{index}.up"])
    assert law_faults(found) == ("blocks.0.up: has a role and stands in without_role",)


def with_slots(*slots: Slot) -> Binding:
    binding = bind(LLAMA)
    return replace(binding, modules={"own": TargetModule(path="own", slots=slots)}, without_role=())


UP = Slot(stack=None, layer=0, role="mlp_up", in_features=4, out_features=5)
GATE = replace(UP, role="mlp_gate")
FIRST, SECOND = (RowSlice(offset=offset, block=5, stride=5, count=1) for offset in (0, 5))

BROKEN: dict[str, tuple[tuple[Slot, ...], tuple[str, ...]]] = {
    "a role of a block outside of one": (
        (replace(UP, layer=None),),
        ("own: mlp_up cannot stand outside a block",),
    ),
    "a role from outside in a block": (
        (replace(UP, role="lm_head"),),
        ("own: lm_head cannot stand in a block",),
    ),
    "rows that overlap": (
        (replace(UP, rows=FIRST), replace(GATE, rows=FIRST)),
        ("own: the rows of mlp_up, mlp_gate do not tile it",),
    ),
    "rows with a hole": (
        (replace(UP, rows=FIRST), replace(GATE, rows=RowSlice(offset=6, block=5, stride=5, count=1))),
        ("own: the rows of mlp_up, mlp_gate do not tile it",),
    ),
    "a slot that is the whole module beside another": (
        (UP, replace(GATE, rows=SECOND), replace(GATE, role="mlp_down", rows=FIRST)),
        ("own: the rows of mlp_up, mlp_gate, mlp_down do not tile it",),
    ),
    "different widths": (
        (replace(UP, rows=FIRST), replace(GATE, rows=SECOND, in_features=3)),
        ("own: mlp_up, mlp_gate read different widths",),
    ),
    "rows of one expert of two": (
        (replace(UP, expert=0), replace(UP, expert=1, rows=SECOND)),
        ("own: the rows of mlp_up do not tile it",),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_inside_a_module_is_told(case: str) -> None:
    slots, faults = BROKEN[case]
    assert law_faults(with_slots(*slots)) == faults


def test_rows_in_turns_tile_a_module() -> None:
    turns = [RowSlice(offset=offset, block=1, stride=2, count=5) for offset in (0, 1)]
    assert law_faults(with_slots(replace(UP, rows=turns[0]), replace(GATE, rows=turns[1]))) == ()
