"""Fused modules, experts, and which module a path is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import Case
from spec.vectors.craft_binders import CONFIG, Json, own, own_of_type, own_with, resolve, shipped, slot

__all__ = ["slot_cases"]

_QKV = ["attention_query", "attention_key", "attention_value"]


def slot_cases() -> Iterator[Case]:
    """Yield every case of slots."""
    yield from _contiguous()
    yield from _blocks()
    yield from _indivisible()
    yield from _expert_modules()
    yield from _expert_parameters()
    yield from _paths()
    yield from _twice()


def _contiguous() -> Iterator[Case]:
    fused = own_with({"path": "qkv", "roles": _QKV, "layout": "contiguous"}, num_key_value_heads=["kv"])
    slots: Json = {
        "b.0.qkv": [
            slot("attention_query", 0, 4, 8, rows=(0, 8, 8, 1)),
            slot("attention_key", 0, 4, 4, rows=(8, 4, 4, 1)),
            slot("attention_value", 0, 4, 4, rows=(12, 4, 4, 1)),
        ]
    }
    yield resolve("fused-contiguous", "Blocks of different length.", fused, {**CONFIG, "heads": 4, "kv": 2}, slots)
    mlp = own_with({"path": "gate_up", "roles": ["mlp_gate", "mlp_up"], "layout": "contiguous", "weight": "conv1d"})
    slots = {"b.0.gate_up": [slot("mlp_gate", 0, 4, 6, rows=(0, 6, 6, 1)), slot("mlp_up", 0, 4, 6, rows=(6, 6, 6, 1))]}
    yield resolve("fused-mlp", "Rows are those of (out, in), however the weight is stored.", mlp, CONFIG, slots)
    lone = own_with({"path": "q", "roles": ["attention_query"], "layout": "per_head"})
    slots = {"b.0.q": [slot("attention_query", 0, 4, 4)]}
    yield resolve("fused-alone", "A layout has no effect on one role.", lone, CONFIG, slots)
    odd = own_with({"path": "up", "roles": ["mlp_up"], "layout": "grouped"})
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 7)]}
    yield resolve("fused-alone-indivisible", "One role is not divided.", odd, {**CONFIG, "mlp": 7}, slots)


def _blocks() -> Iterator[Case]:
    heads = own_with({"path": "vk", "roles": ["attention_value", "attention_key"], "layout": "per_head"})
    slots: Json = {
        "b.0.vk": [
            slot("attention_value", 0, 4, 6, rows=(0, 2, 4, 3)),
            slot("attention_key", 0, 4, 6, rows=(2, 2, 4, 3)),
        ]
    }
    yield resolve("fused-per-head", "Slots stand in the order of the rows.", heads, {**CONFIG, "heads": 3}, slots)
    both = ["attention_query", "cross_attention_query"]
    queries = own_with({"path": "qq", "roles": both, "layout": "per_head"}, num_key_value_heads=["kv"])
    slots = {
        "b.0.qq": [
            slot("attention_query", 0, 4, 8, rows=(0, 2, 4, 4)),
            slot("cross_attention_query", 0, 4, 8, rows=(2, 2, 4, 4)),
        ]
    }
    config = {**CONFIG, "heads": 4, "kv": 2}
    yield resolve("fused-query-heads", "There is a block for each query head.", queries, config, slots)
    wide = own_with({"path": "qkv", "roles": _QKV, "layout": "per_head"}, num_key_value_heads=["kv"])
    slots = {
        "b.0.qkv": [
            slot("attention_query", 0, 4, 8, rows=(0, 2, 4, 4)),
            slot("attention_key", 0, 4, 4, rows=(2, 1, 4, 4)),
            slot("attention_value", 0, 4, 4, rows=(3, 1, 4, 4)),
        ]
    }
    yield resolve("fused-per-head-unequal", "Blocks of different width for each head.", wide, config, slots)
    grouped = own_with({"path": "qkv", "roles": _QKV, "layout": "grouped"}, num_key_value_heads=["kv"])
    slots = {
        "b.0.qkv": [
            slot("attention_query", 0, 4, 8, rows=(0, 4, 8, 2)),
            slot("attention_key", 0, 4, 4, rows=(4, 2, 8, 2)),
            slot("attention_value", 0, 4, 4, rows=(6, 2, 8, 2)),
        ]
    }
    yield resolve("fused-grouped", "There is a block for each key and value head.", grouped, config, slots)
    slots = {
        "b.0.qkv": [
            slot("attention_query", 0, 4, 8, rows=(0, 8, 12, 1)),
            slot("attention_key", 0, 4, 2, rows=(8, 2, 12, 1)),
            slot("attention_value", 0, 4, 2, rows=(10, 2, 12, 1)),
        ]
    }
    yield resolve("fused-one-group", "One group strides over all rows.", grouped, {**config, "kv": 1}, slots)
    taking = own_with({"path": "gu", "roles": ["mlp_gate", "mlp_up"], "layout": "interleaved"})
    slots = {"b.0.gu": [slot("mlp_gate", 0, 4, 6, rows=(0, 1, 2, 6)), slot("mlp_up", 0, 4, 6, rows=(1, 1, 2, 6))]}
    yield resolve("fused-interleaved", "Roles take turns row by row.", taking, CONFIG, slots)
    three = own_with({"path": "qkv", "roles": _QKV, "layout": "interleaved"})
    slots = {
        "b.0.qkv": [
            slot("attention_query", 0, 4, 4, rows=(0, 1, 3, 4)),
            slot("attention_key", 0, 4, 4, rows=(1, 1, 3, 4)),
            slot("attention_value", 0, 4, 4, rows=(2, 1, 3, 4)),
        ]
    }
    yield resolve("fused-interleaved-three", "Three roles take turns.", three, CONFIG, slots)


def _indivisible() -> Iterator[Case]:
    mlp = ["mlp_gate", "mlp_up"]
    heads = {**CONFIG, "heads": 4, "kv": 2}
    rows: list[tuple[str, str, Json, Json]] = [
        ("per-head", "Rows that heads do not divide.", {"roles": mlp, "layout": "per_head"}, {**CONFIG, "mlp": 7}),
        ("grouped", "Rows that groups do not divide.", {"roles": mlp, "layout": "grouped"}, {**CONFIG, "mlp": 7}),
        (
            "per-head-one-role",
            "Rows of one of two roles that heads do not divide.",
            {"roles": ["attention_query", "mlp_up"], "layout": "per_head"},
            {**CONFIG, "mlp": 7},
        ),
        (
            "interleaved",
            "Roles of unequal width do not take turns.",
            {"roles": _QKV[:2], "layout": "interleaved"},
            heads,
        ),
        (
            "interleaved-multiple",
            "Nor where one is the narrower by half.",
            {"roles": _QKV[1::-1], "layout": "interleaved"},
            heads,
        ),
    ]
    for name, description, module, config in rows:
        binder = own_with({"path": "up", **module}, num_key_value_heads=["kv", "heads"])
        yield resolve(f"fused-refused-{name}", description, binder, config, "binder-data")
    for layout, lacking in (("per_head", "num_attention_heads"), ("grouped", "num_key_value_heads")):
        binder = own_with({"path": "up", "roles": mlp, "layout": layout})
        del binder["stacks"][0]["dimensions"][lacking]
        name = f"fused-refused-{layout.replace('_', '-')}-absent"
        yield resolve(name, "A count that the stack does not name.", binder, CONFIG, "binder-data")


def _mixture(*modules: Json, **dimensions: Any) -> Json:
    return own_with(*modules, num_experts=["experts"], expert_intermediate_size=["narrow"], **dimensions)


_EXPERTS: Json = {**CONFIG, "experts": 3, "narrow": 5}


def _expert_modules() -> Iterator[Case]:
    down = {"path": "experts.{expert}.down", "roles": ["mlp_down"]}
    wide = {"path": "down", "roles": ["mlp_down"]}
    gate = {"path": "gate", "roles": ["moe_router"]}
    slots: Json = {
        "b.0.experts.0.down": [slot("mlp_down", 0, 5, 4, expert=0)],
        "b.0.experts.2.down": [slot("mlp_down", 0, 5, 4, expert=2)],
        "b.0.experts.3.down": None,
        "b.0.experts.02.down": None,
        "b.0.experts.-1.down": None,
        "b.0.experts.{expert}.down": None,
        "b.0.experts.down": None,
        "b.0.experts..down": None,
        "b.0.down": [slot("mlp_down", 0, 6, 4)],
        "b.0.gate": [slot("moe_router", 0, 4, 3)],
    }
    mixed = _mixture(down, wide, gate)
    yield resolve("experts", "A module for each expert, narrower than the dense one.", mixed, _EXPERTS, slots)
    slots = {"b.0.experts.1.down": [slot("mlp_down", 0, 6, 4, expert=1)]}
    config = {**_EXPERTS, "narrow": None}
    yield resolve("experts-of-full-width", "Experts as wide as the dense MLP.", _mixture(down), config, slots)
    slots = {f"b.0.experts.{index}.down": None for index in range(2)}
    slots |= {"b.0.down": [slot("mlp_down", 0, 6, 4)]}
    description = "Where there are no experts, there is no module of them, and no fault."
    yield resolve("experts-none", description, _mixture(down, wide), CONFIG, slots)
    yield resolve("experts-unnamed", description, own_with(down, wide), CONFIG, slots)
    twice = _mixture({"path": "e{expert}.w{expert}", "roles": ["mlp_up"]})
    slots = {
        "b.0.e11.w11": [slot("mlp_up", 0, 4, 5, expert=11)],
        "b.0.e11.w1": None,
        "b.0.e1.w11": None,
        "b.0.e12.w12": None,
    }
    description = "An expert's index that stands twice, in two digits."
    yield resolve("experts-twice", description, twice, {**_EXPERTS, "experts": 12}, slots)
    fused = _mixture({"path": "e.{expert}.gu", "roles": ["mlp_gate", "mlp_up"], "layout": "contiguous"})
    slots = {
        "b.0.e.1.gu": [
            slot("mlp_gate", 0, 4, 5, expert=1, rows=(0, 5, 5, 1)),
            slot("mlp_up", 0, 4, 5, expert=1, rows=(5, 5, 5, 1)),
        ]
    }
    yield resolve("experts-fused", "A fused module of each expert.", fused, _EXPERTS, slots)
    sparse = _mixture({**down, "layers": [{"from": 1}]}, {**wide, "unless_layers": [{"from": 1}]})
    slots = {
        "b.0.down": [slot("mlp_down", 0, 6, 4)],
        "b.0.experts.0.down": None,
        "b.1.down": None,
        "b.1.experts.0.down": [slot("mlp_down", 1, 5, 4, expert=0)],
    }
    yield resolve("experts-in-some-blocks", "A dense block and a sparse one.", sparse, {**_EXPERTS, "depth": 2}, slots)


def _expert_parameters() -> Iterator[Case]:
    fused = {"path": "experts", "parameter": "gate_up", "roles": ["mlp_gate", "mlp_up"]}
    down = {"path": "experts", "parameter": "down", "roles": ["mlp_down"]}
    down_slots = [slot("mlp_down", 0, 5, 4, expert=index) for index in range(2)]
    for layout, gate, up in (("contiguous", (0, 5, 5, 1), (5, 5, 5, 1)), ("interleaved", (0, 1, 2, 5), (1, 1, 2, 5))):
        slots: Json = {
            "b.0.experts.gate_up": [
                slot("mlp_gate", 0, 4, 5, expert=0, rows=gate),
                slot("mlp_up", 0, 4, 5, expert=0, rows=up),
                slot("mlp_gate", 0, 4, 5, expert=1, rows=gate),
                slot("mlp_up", 0, 4, 5, expert=1, rows=up),
            ],
            "b.0.experts.down": down_slots,
            "b.0.experts": None,
            "b.0.experts.0.down": None,
        }
        for weight in ("linear", "conv1d"):
            binder = _mixture({**fused, "layout": layout, "weight": weight}, {**down, "weight": weight})
            description = f"Experts as a parameter, {layout} and {weight}: the rows are those of one expert."
            yield resolve(f"parameter-{layout}-{weight}", description, binder, {**_EXPERTS, "experts": 2}, slots)
    slots = {"b.0.experts.down": None, "b.0.experts": None}
    yield resolve("parameter-none", "Without experts there is no parameter.", _mixture(down), CONFIG, slots)
    beside = _mixture(down, {"path": "experts", "roles": ["moe_router"]})
    slots = {"b.0.experts.down": down_slots, "b.0.experts": [slot("moe_router", 0, 4, 2)]}
    description = "A module beside a parameter of its own."
    yield resolve("parameter-beside-module", description, beside, {**_EXPERTS, "experts": 2}, slots)
    indivisible = _mixture({**fused, "path": "up", "layout": "per_head"})
    description = "Rows of an expert that heads do not divide."
    yield resolve("parameter-refused-indivisible", description, indivisible, _EXPERTS, "binder-data")


_LLAMA: Json = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 16,
}


def _paths() -> Iterator[Case]:
    binder = shipped("llama", "llama")
    near = (
        "model.layers.2.self_attn.q_proj",
        "model.layers.00.self_attn.q_proj",
        "model.layers.-1.self_attn.q_proj",
        "model.layers.{layer}.self_attn.q_proj",
        "model.layers.0.self_attn.q_proj.lora_A",
        "model.layers.0.self_attn.Q_proj",
        "model.layers.0.q_proj",
        "q_proj",
        "base_model.model.model.layers.0.self_attn.q_proj",
        "model_layers.0.self_attn.q_proj",
        "",
    )
    slots: Json = dict.fromkeys(near)
    yield resolve("path-exact", "A path is looked up exactly, never by a part of it.", binder, _LLAMA, slots)
    slots = {"model.layers.0.mlp.up_proj": [slot("mlp_up", 0, 8, 12)]}
    description = "A path that is asked for twice is answered once."
    yield resolve("path-twice", description, binder, _LLAMA, slots, modules=tuple(slots) * 2)
    yield resolve("path-none", "No path at all.", own(), CONFIG, {})
    second = own()
    second["outer"] = [
        {"path": "emb", "role": "token_embedding", "within": "backbone", "stack": "encoder"},
        {"path": "out", "role": "lm_head", "within": "model"},
    ]
    slots = {"emb": [slot("token_embedding", None, 5, 4)], "out": [slot("lm_head", None, 4, 5)]}
    yield resolve("path-outer-stack", "Where there is no such stack, the first is meant.", second, CONFIG, slots)
    twelve = {**CONFIG, "depth": 12, "model_type": "own2"}
    slots = {"b.11.up": [slot("mlp_up", 11, 4, 6)], "b.12.up": None}
    description = "A layer of two digits, and another model type of the binder."
    yield resolve("path-two-digits", description, own(), twelve, slots)
    inner = own()
    inner["stacks"][0]["path"] = "groups.{layer}.inner.0."
    slots = {"groups.0.inner.0.up": [slot("mlp_up", 0, 4, 6)], "groups.0.up": None, "groups.0.inner.1.up": None}
    yield resolve("path-behind-layer", "A path of a block that goes on behind the layer.", inner, CONFIG, slots)
    only = own()
    only["stacks"][0]["path"] = "{layer}."
    slots = {"0.up": [slot("mlp_up", 0, 4, 6)], "b.0.up": None}
    yield resolve("path-layer-alone", "A path of a block that is its layer alone.", only, CONFIG, slots)
    listed = own_of_type(own(), without_role=["{backbone}b.{index}.{index}", "norm"])
    listed["without_role"] = ["b.{index}.up", "{backbone}{backbone}wpe"]
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)], "b.1.up": None, "b.0.1": None, "norm": None, "wpe": None}
    yield resolve("path-without-role", "A module with a role that is listed without one.", listed, CONFIG, slots)


def _twice() -> Iterator[Case]:
    up, gate = {"path": "x", "roles": ["mlp_up"]}, {"path": "x", "roles": ["mlp_gate"]}
    slots: Json = {"b.0.x": [slot("mlp_gate", 0, 4, 6)]}
    yield resolve("same-path", "The later of two modules takes the path.", own_with(up, gate), CONFIG, slots)
    some = own_with(up, {**gate, "layers": [{"from": 1}]})
    slots = {"b.0.x": [slot("mlp_up", 0, 4, 6)], "b.1.x": [slot("mlp_gate", 1, 4, 6)]}
    yield resolve("same-path-in-some-blocks", "The later one exists in one block.", some, {**CONFIG, "depth": 2}, slots)
    never = own_with(up, {**gate, "when": [{"field": "gated", "values": [True]}]})
    slots = {"b.0.x": [slot("mlp_up", 0, 4, 6)]}
    yield resolve("same-path-absent", "What does not exist takes no path.", never, CONFIG, slots)
    outer = own_with(up)
    outer["outer"] = [
        {"path": "b.0.x", "role": "token_embedding", "within": "model"},
        {"path": "y", "role": "token_embedding", "within": "model"},
        {"path": "y", "role": "lm_head", "within": "model"},
    ]
    slots = {"b.0.x": [slot("token_embedding", None, 5, 4)], "y": [slot("lm_head", None, 4, 5)]}
    yield resolve("same-path-outer", "Outer modules are added last.", outer, CONFIG, slots)
    stacks = own_with(up)
    (stack,) = stacks["stacks"]
    stacks["stacks"] = [{**stack, "name": "encoder"}, {**stack, "name": "decoder", "modules": [gate]}]
    slots = {"b.0.x": [slot("mlp_gate", 0, 4, 6, stack="decoder")]}
    yield resolve("same-path-stacks", "The later of two stacks takes the path.", stacks, CONFIG, slots)
    digits = own_with({"path": "{expert}", "roles": ["mlp_up"]}, {"path": "1", "roles": ["mlp_down"]}, num_experts=[2])
    slots = {"b.0.0": [slot("mlp_up", 0, 4, 6, expert=0)], "b.0.1": [slot("mlp_down", 0, 6, 4)]}
    yield resolve("same-path-expert", "A later module takes the path of an expert.", digits, CONFIG, slots)
