"""Binder documents applied to small configs: where the backbone stands, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from spec.vectors.cases_architectures import architecture_cases
from spec.vectors.cases_conditions import condition_cases
from spec.vectors.cases_editions import edition_cases
from spec.vectors.cases_slots import slot_cases
from spec.vectors.cases_ways import way_cases
from spec.vectors.craft import Case
from spec.vectors.craft_binders import CONFIG, Json, own, own_of_type, own_with, resolve, slot

__all__ = ["binder_cases"]


def binder_cases() -> Iterator[Case]:
    """Yield every case of the operation ``resolve``."""
    yield from architecture_cases()
    yield from _prefixes()
    yield from _parts()
    yield from way_cases()
    yield from condition_cases()
    yield from slot_cases()
    yield from edition_cases()
    yield _two_stacks()
    yield from _refused()


_CLASSES = {"": ["OwnModel"], "model.": ["OwnForCausalLM", "OwnForTokens"], "inner.model.": ["OwnForQuestions"]}


def _placed() -> Json:
    binder = own_of_type(own(), classes=_CLASSES, default_class="OwnForCausalLM")
    binder["outer"] = [
        {"path": "embed", "role": "token_embedding", "within": "backbone"},
        {"path": "head", "role": "lm_head", "within": "model"},
    ]
    return binder


def _prefixes() -> Iterator[Case]:
    rows: list[tuple[str, str, Any, str | None, str]] = [
        ("by-config", "The class that the config names.", ["OwnModel"], None, ""),
        (
            "by-request",
            "The class that the request names comes first.",
            ["OwnModel"],
            "OwnForQuestions",
            "inner.model.",
        ),
        ("by-second-class", "The first class of the config that the binder knows.", ["Mine", "OwnModel"], None, ""),
        ("by-first-class", "The first of two classes.", ["OwnForQuestions", "OwnModel"], None, "inner.model."),
        ("by-default", "The default class, where the config names none.", None, None, "model."),
        ("of-several", "One of several classes of a prefix.", ["OwnForTokens"], None, "model."),
        ("unknown-class", "A class that the binder does not know is passed over.", ["Mine"], "Theirs", "model."),
        ("unknown-request", "The config decides where the request is not known.", ["OwnModel"], "Theirs", ""),
        ("case", "Classes are compared exactly.", ["ownmodel"], None, "model."),
        ("no-list", "architectures that is no list names no class.", "OwnModel", None, "model."),
        ("empty-list", "An empty list names no class.", [], None, "model."),
        ("odd-list", "What is no text in architectures is passed over.", [1, None, ["x"], "OwnModel"], None, ""),
    ]
    places = ("", "model.", "inner.model.")
    for name, description, classes, model_class, prefix in rows:
        slots: Json = {f"{place}b.0.up": None for place in places} | {f"{place}embed": None for place in places}
        slots |= {f"{prefix}b.0.up": [slot("mlp_up", 0, 4, 6)], f"{prefix}embed": [slot("token_embedding", None, 5, 4)]}
        slots |= {"head": [slot("lm_head", None, 4, 5)], "model.head": None}
        config = {**CONFIG, "architectures": classes}
        yield resolve(f"prefix-{name}", description, _placed(), config, slots, model_class=model_class)
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)], "model.b.0.up": None}
    other = {**CONFIG, "model_type": "own2", "architectures": ["OwnForCausalLM"]}
    description = "The classes of another model type do not count."
    yield resolve("prefix-of-other-type", description, _placed(), other, slots)


def _parted() -> Json:
    """Return a binder of two stacks, one of which some classes lack."""
    binder = own()
    (stack,) = binder["stacks"]
    encoder = {**stack, "name": "encoder", "path": "e.{layer}."}
    decoder = {**stack, "name": "decoder", "path": "d.{layer}."}
    binder["stacks"] = [encoder, decoder]
    binder["outer"] = [
        {"path": "shared", "role": "token_embedding", "within": "backbone", "stack": "encoder"},
        {"path": "head", "role": "lm_head", "within": "model", "stack": "decoder"},
    ]
    classes = {"": ["OwnModel", "OwnEncoder"], "model.": ["OwnDecoder", "OwnBoth"]}
    partial = {"OwnEncoder": ["encoder"], "OwnDecoder": ["decoder"], "OwnBoth": ["encoder", "decoder"]}
    return own_of_type(binder, classes=classes, partial=partial)


def _parts() -> Iterator[Case]:
    def slots(prefix: str, *stacks: str) -> Json:
        found: Json = {
            f"{prefix}e.0.up": [slot("mlp_up", 0, 4, 6, stack="encoder")],
            f"{prefix}shared": [slot("token_embedding", None, 5, 4, stack="encoder")],
            f"{prefix}d.0.up": [slot("mlp_up", 0, 4, 6, stack="decoder")],
            "head": [slot("lm_head", None, 4, 5, stack="decoder")],
        }
        return {path: of if of[0]["stack"] in stacks else None for path, of in found.items()}

    rows: list[tuple[str, str, str | None, Json]] = [
        ("whole", "A class that holds all stacks.", None, slots("", "encoder", "decoder")),
        ("encoder", "A class that holds the encoder.", "OwnEncoder", slots("", "encoder")),
        ("decoder", "A class that holds the decoder.", "OwnDecoder", slots("model.", "decoder")),
        ("both", "A class that is said to hold both.", "OwnBoth", slots("model.", "encoder", "decoder")),
    ]
    for name, description, class_, expected in rows:
        yield resolve(f"part-{name}", description, _parted(), CONFIG, expected, model_class=class_)
    config = {**CONFIG, "architectures": ["OwnEncoder"]}
    yield resolve("part-by-config", "The class that the config names.", _parted(), config, slots("", "encoder"))
    default = own_of_type(_parted(), default_class="OwnEncoder")
    yield resolve("part-by-default", "The default class holds a part, too.", default, CONFIG, slots("", "encoder"))
    crossed = _parted()
    crossed["stacks"][0]["dimensions"] = {**crossed["stacks"][0]["dimensions"], "hidden_size": ["wide"]}
    crossed["stacks"][1]["modules"] = [{"path": "k", "roles": ["cross_attention_key"]}]
    found = {"model.d.0.k": [slot("cross_attention_key", 0, 8, 4, stack="decoder")]}
    wide = {**CONFIG, "wide": 8}
    description = "Cross attention reads the width of an encoder that is elsewhere."
    yield resolve("part-cross", description, crossed, wide, found, model_class="OwnDecoder")
    description = "A dimension of a stack that the class lacks must be there all the same."
    yield resolve("part-refused", description, crossed, CONFIG, "binder-data", model_class="OwnDecoder")
    odd = _parted()
    odd["stacks"][0]["modules"] = [{"path": "up", "roles": ["state_space_in"], "layers": [{"every": "step"}]}]
    description = "The modules of a stack that the class lacks are not looked at."
    yield resolve("part-unseen", description, odd, CONFIG, slots("model.", "decoder"), model_class="OwnDecoder")
    outer = _parted()
    outer["outer"].append({"path": "x", "role": "token_embedding", "within": "model"})
    description = "An outer module of no stack belongs to the first, which the class lacks."
    yield resolve("part-outer-of-first", description, outer, CONFIG, {"x": None}, model_class="OwnDecoder")
    lone = own_of_type(own(), partial={"OwnModel": ["encoder"]})
    description = "A stack without a name is none of those that a class holds."
    yield resolve("part-of-one-stack", description, lone, CONFIG, {"b.0.up": None})


def _two_stacks() -> Case:
    """Return a case whose encoder is wider than its decoder."""
    binder = own()
    (stack,) = binder["stacks"]
    encoder = {**stack, "name": "encoder", "path": "e.{layer}."}
    encoder["dimensions"] = {**stack["dimensions"], "hidden_size": ["wide"]}
    roles = ("cross_attention_query", "cross_attention_key", "cross_attention_value", "cross_attention_output")
    modules = [{"path": role, "roles": [role]} for role in roles]
    decoder = {**stack, "name": "decoder", "path": "d.{layer}.", "modules": modules}
    binder["stacks"] = [encoder, decoder]
    slots: Json = {
        "e.0.up": [slot("mlp_up", 0, 8, 6, stack="encoder")],
        "d.0.cross_attention_query": [slot("cross_attention_query", 0, 4, 4, stack="decoder")],
        "d.0.cross_attention_key": [slot("cross_attention_key", 0, 8, 4, stack="decoder")],
        "d.0.cross_attention_value": [slot("cross_attention_value", 0, 8, 4, stack="decoder")],
        "d.0.cross_attention_output": [slot("cross_attention_output", 0, 4, 4, stack="decoder")],
    }
    description = "Cross attention reads the encoder's width."
    return resolve("path-two-stacks", description, binder, {**CONFIG, "wide": 8}, slots)


def _refused() -> Iterator[Case]:
    for name, description, model_type in (
        ("model-type", "A model type that the binder does not list.", "foreign"),
        ("model-type-case", "A model type is compared exactly.", "Own"),
        ("model-type-architecture", "The name of the layout is no model type.", "layout"),
    ):
        binder = {**own(), "architecture": "layout"}
        yield resolve(
            f"refused-{name}", description, binder, {**CONFIG, "model_type": model_type}, "unknown-architecture"
        )
    description = "A model type that is not listed is told before a number that cannot be found."
    yield resolve("refused-model-type-first", description, own(), {"model_type": "foreign"}, "unknown-architecture")
    untyped = {key: value for key, value in CONFIG.items() if key != "model_type"}
    configs: list[tuple[str, str, Any]] = [
        ("no-model-type", "A config without model_type.", untyped),
        ("model-type-number", "A model_type that is no text.", {**CONFIG, "model_type": 1}),
        ("model-type-null", "A model_type that is null.", {**CONFIG, "model_type": None}),
        ("config-list", "A config that is a list.", b"[]"),
        ("config-no-json", "A config that is no JSON.", b"{"),
        ("config-repeated", "A config with a name that stands twice.", b'{"model_type":"own","model_type":"own"}'),
        ("config-nan", "A config that holds NaN.", b'{"model_type":"own","width":NaN}'),
    ]
    for name, description, config in configs:
        yield resolve(f"refused-{name}", description, own(), config, "binder-data")
    for name, description, binder in (*_bad_bytes(), *_bad_documents(), *_bad_types(), *_bad_ways(), *_bad_modules()):
        yield resolve(f"refused-binder-{name}", description, binder, CONFIG, "binder-data")
    description = "A binder that is wrong is told before a config that is."
    yield resolve("refused-binder-first", description, b"{}", b"{", "binder-data")


Bad = Iterator[tuple[str, str, Any]]


def _bad_bytes() -> Bad:
    yield "no-json", "A binder that is no JSON.", b"{"
    yield "repeated", "A binder with a name that stands twice.", b'{"binder_version":"1.0","binder_version":"1.0"}'


def _bad_documents() -> Bad:
    yield "version", "A binder of another version.", {**own(), "binder_version": "2.0"}
    yield "unknown-field", "A field that a binder does not have.", {**own(), "colour": "red"}
    yield "no-known-values", "A field of which no value is known.", {**own(), "known_values": {"form": []}}
    yield (
        "no-norms",
        "A binder that does not say where norms are.",
        {key: own()[key] for key in own() if key != "norms"},
    )
    yield "rotary-style", "A rotary style that is not known.", {**own(), "rotary": {"style": "spiral"}}
    yield "rotary-when", "A rotary style without a condition.", {**own(), "rotary": {"style": "half", "when": []}}
    yield "no-head-dim", "A dimension without a way.", own(head_dim=[])
    yield "dimension", "A dimension that there is not.", own(num_heads=["heads"])
    path = own()
    path["stacks"][0]["path"] = "b."
    yield "path", "A path without a layer.", path
    lacking = own()
    del lacking["stacks"][0]["dimensions"]["hidden_size"]
    yield "no-hidden-size", "A binder that does not say the hidden size.", lacking
    yield "no-stacks", "A binder without a stack.", {**own(), "stacks": []}
    tied = [{"roles": ["lm_head"]}]
    yield "tied", "A module that is tied to none.", {**own(), "tied": tied}


def _bad_types() -> Bad:
    yield "no-model-types", "A binder without a model type.", {**own(), "model_types": {}}
    yield "model-types-list", "Model types that are a list.", {**own(), "model_types": ["own"]}
    yield "no-classes", "A model type without a class.", own_of_type(own(), classes={})
    yield "empty-prefix", "A prefix that no class has.", own_of_type(own(), classes={"": ["OwnModel"], "m.": []})
    unknown = own_of_type(own(), default_class="Other")
    yield "default-class", "A default class that the model type does not have.", unknown
    other = own()
    other["model_types"]["own2"]["default_class"] = "Other"
    yield "default-class-of-other-type", "The default class of another model type is wrong.", other
    nameless = own()
    del nameless["model_types"]["own"]["default_class"]
    yield "no-default-class", "A model type without a default class.", nameless
    yield "prefix", "A prefix that does not end in a dot.", own_of_type(own(), classes={"model": ["OwnModel"]})
    yield "classes-by-name", "Prefixes by class.", own_of_type(own(), classes={"OwnModel": ""})
    yield "partial", "A part that is no stack.", own_of_type(own(), partial={"OwnModel": ["middle"]})
    yield "type-field", "A field that a model type does not have.", own_of_type(own(), colour="red")
    yield "type-known-values", "Known values are not of one model type.", own_of_type(own(), known_values={"a": [1]})


def _bad_ways() -> Bad:
    condition = {"field": "a", "values": [1]}
    rows: list[tuple[str, str, Any]] = [
        ("negative", "A number below 0.", -2),
        ("zero", "A number that is 0.", 0),
        ("boolean", "A way that is true.", True),
        ("null", "A way that is null.", None),
        ("empty-field", "A field without a name.", ""),
        ("no-operator", "A way without an operator.", {}),
        ("operator", "An operator that there is not.", {"difference": ["a", 2]}),
        ("two-operators", "A way that is a quotient and a product.", {"quotient": ["a", 2], "product": ["a", 2]}),
        ("one-operand", "A quotient of one.", {"quotient": ["a"]}),
        ("three-operands", "A quotient of three.", {"quotient": ["a", 2, 3]}),
        ("operand-fraction", "An operand below 0 that is no integer.", {"sum": ["a", -1.5]}),
        ("operand-boolean", "An operand that is true.", {"sum": ["a", True]}),
        ("operand-list", "An operand that is a list of ways.", {"sum": [["a"], 1]}),
        ("item-negative", "An item before the first.", {"item": ["a", -1]}),
        ("item-fraction", "An item between two.", {"item": ["a", 0.5]}),
        ("item-of-way", "An item of what is computed.", {"item": [{"sum": ["a", 1]}, 0]}),
        ("when-list", "A list of conditions in a way.", {"when": [[condition], 1]}),
        ("when-reversed", "A way before its condition.", {"when": [1, condition]}),
        ("when-fraction-below", "A number below 0 that is no integer.", {"when": [condition, -0.5]}),
        ("when-alone", "A condition without a way.", {"when": [condition]}),
    ]
    for name, description, way in rows:
        yield f"way-{name}", description, own(head_dim=[way])


def _bad_modules() -> Bad:
    up = {"path": "up", "roles": ["mlp_up"]}
    fused = {"path": "qk", "roles": ["attention_query", "attention_key"]}
    rows: list[tuple[str, str, Json]] = [
        ("role", "A role that is not in the table.", {"path": "up", "roles": ["mlp"]}),
        ("no-roles", "A module without a role.", {"path": "up", "roles": []}),
        ("role-twice", "A role that stands twice.", {**fused, "roles": ["mlp_up", "mlp_up"], "layout": "contiguous"}),
        ("fused-without-layout", "A fused module without a layout.", fused),
        ("layout", "A layout that is not known.", {**fused, "layout": "striped"}),
        ("parameter", "A parameter that is a path.", {**up, "parameter": "a.b"}),
        ("when-object", "A condition that is not in a list.", {**up, "when": {"field": "a", "values": [1]}}),
        ("no-conditions", "An empty list of conditions.", {**up, "when": []}),
        ("no-values", "A condition without a value.", {**up, "when": [{"field": "a", "values": []}]}),
        ("layers-object", "A condition on a block that is not in a list.", {**up, "layers": {"in": "a"}}),
        ("no-layers", "An empty list of conditions on a block.", {**up, "layers": []}),
        ("layers-empty", "A condition on a block that says nothing.", {**up, "layers": [{}]}),
        ("layers-two-forms", "A condition on a block of two forms.", {**up, "layers": [{"in": "a", "every": 2}]}),
        ("layers-values", "Items without values.", {**up, "layers": [{"item_of": "a"}]}),
        ("layers-list", "A list that is no field.", {**up, "layers": [{"in": [1, 2]}]}),
        ("layers-from-zero", "A bound that is the number 0.", {**up, "layers": [{"from": 0}]}),
        ("layers-shift", "A shift below 0.", {**up, "layers": [{"every": 2, "shift": -1}]}),
        ("layers-shift-alone", "A shift of no period.", {**up, "layers": [{"shift": 1}]}),
    ]
    for name, description, module in rows:
        yield name, description, own_with(copy.deepcopy(module))
