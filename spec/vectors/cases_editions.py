"""Editions: the names that the modules of one architecture had at one time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import Case
from spec.vectors.craft_binders import CONFIG, Json, own_of_type, own_with, resolve, shipped, slot

__all__ = ["edition_cases"]


def edition_cases() -> Iterator[Case]:
    """Yield every case of editions."""
    yield from _names()
    yield from _prefixes()
    yield from _unasked()
    yield from _refused()
    yield from _shipped()


def _binder() -> Json:
    """Return a binder whose up projection and head have another name in each of two older editions."""
    binder = own_with(
        {"path": "mlp.up", "roles": ["mlp_up"], "edition": "v3"},
        {"path": "up_proj", "roles": ["mlp_up"], "edition": "v2"},
        {"path": "fc", "roles": ["mlp_up"], "edition": "v1"},
        {"path": "down", "roles": ["mlp_down"]},
    )
    binder["editions"] = ["v3", "v2", "v1"]
    binder["outer"] = [
        {"path": "embed", "role": "token_embedding", "within": "backbone"},
        {"path": "head", "role": "lm_head", "within": "model", "edition": "v3"},
        {"path": "lm.head", "role": "lm_head", "within": "model", "edition": "v2"},
    ]
    classes = {"": ["OwnModel"], "lm.b.": ["OwnForText"]}
    return own_of_type(binder, older_editions={"v1": {}, "v2": classes})


_PATHS = ("b.0.mlp.up", "b.0.up_proj", "b.0.fc", "b.0.down", "embed", "head", "lm.head")
_UP, _DOWN = [slot("mlp_up", 0, 4, 6)], [slot("mlp_down", 0, 6, 4)]
_EMBED, _HEAD = [slot("token_embedding", None, 5, 4)], [slot("lm_head", None, 4, 5)]


def _found(slots: Json) -> Json:
    return dict.fromkeys(_PATHS) | {"b.0.down": _DOWN, "embed": _EMBED} | slots


def _names() -> Iterator[Case]:
    rows: list[tuple[str, str, str | None, Json]] = [
        ("first", "The first edition where none is asked for.", None, {"b.0.mlp.up": _UP, "head": _HEAD}),
        ("by-name", "The first edition by its name.", "v3", {"b.0.mlp.up": _UP, "head": _HEAD}),
        ("second", "Modules and outer modules of an older edition.", "v2", {"b.0.up_proj": _UP, "lm.head": _HEAD}),
        ("third", "A slot may be missing in an edition.", "v1", {"b.0.fc": _UP}),
    ]
    for name, description, edition, slots in rows:
        yield resolve(f"edition-{name}", description, _binder(), CONFIG, _found(slots), edition=edition)


def _prefixes() -> Iterator[Case]:
    slots: Json = {"lm.b.b.0.up_proj": _UP, "lm.b.embed": _EMBED, "lm.head": _HEAD, "b.0.up_proj": None}
    description = "The prefix of a class in an older edition."
    binder = _binder()
    yield resolve("edition-prefix", description, binder, CONFIG, slots, model_class="OwnForText", edition="v2")
    description = "A class that only an older edition has is passed over in the first."
    found = {"b.0.mlp.up": _UP, "lm.b.b.0.mlp.up": None}
    yield resolve("edition-prefix-of-other", description, binder, CONFIG, found, model_class="OwnForText")
    description = "Without classes of its own an older edition has those of the first."
    config = {**CONFIG, "architectures": ["OwnForText", "OwnModel"]}
    found = {"b.0.fc": _UP, "lm.b.b.0.fc": None}
    yield resolve("edition-prefix-same", description, binder, config, found, edition="v1")
    description = "The config names the class in an older edition, too."
    found = {"b.0.up_proj": None, "lm.b.b.0.up_proj": _UP}
    yield resolve("edition-prefix-by-config", description, binder, config, found, edition="v2")


def _unasked() -> Iterator[Case]:
    binder = _binder()
    binder["stacks"][0]["modules"][1] |= {"layers": [{"every": "absent"}]}
    description = "The conditions of a module of another edition are not looked at."
    yield resolve("edition-unseen", description, binder, CONFIG, {"b.0.mlp.up": _UP, "b.0.up_proj": None})
    yield resolve("edition-seen", "Those of its own are.", binder, CONFIG, "binder-data", edition="v2")
    one = own_with({"path": "up", "roles": ["mlp_up"], "edition": "v1"})
    one["editions"] = ["v1"]
    yield resolve("edition-only", "A binder of one edition.", one, CONFIG, {"b.0.up": _UP})


def _refused() -> Iterator[Case]:
    rows: list[tuple[str, str, Any, str | None]] = [
        ("unknown", "An edition that the binder does not have.", _binder(), "v4"),
        ("case", "Editions are compared exactly.", _binder(), "V2"),
        ("none", "A binder without editions has none.", own_with({"path": "up", "roles": ["mlp_up"]}), "v1"),
        ("undeclared-module", "A module of an edition that is not listed.", _changed("modules", "v4"), None),
        ("undeclared-outer", "An outer module of an edition that is not listed.", _changed("outer", "v4"), None),
        ("undeclared-older", "An older edition that is not listed.", _older({"v4": {}}), None),
        ("older-first", "The first edition among the older ones.", _older({"v3": {}}), None),
        ("older-none", "No older edition.", _older({}), None),
        ("no-default", "An older edition without the default class.", _older({"v2": {"": ["OwnForText"]}}), None),
        ("prefix", "A prefix without a dot at its end.", _older({"v2": {"lm": ["OwnModel"]}}), None),
        ("no-editions", "An empty list of editions.", {**_binder(), "editions": []}, None),
        ("twice", "An edition that stands twice.", {**_binder(), "editions": ["v3", "v2", "v1", "v2"]}, None),
        ("name", "A name that is none.", {**_binder(), "editions": ["v3", "v2", "v1", "V0"]}, None),
    ]
    for name, description, binder, edition in rows:
        yield resolve(f"edition-refused-{name}", description, binder, CONFIG, "binder-data", edition=edition)
    description = "An older edition that another model type has."
    config = {**CONFIG, "model_type": "own2"}
    yield resolve("edition-refused-of-other-type", description, _binder(), config, "binder-data", edition="v2")


def _changed(where: str, edition: str) -> Json:
    binder = copy.deepcopy(_binder())
    items = binder["outer"] if where == "outer" else binder["stacks"][0]["modules"]
    items[-1]["edition"] = edition
    return binder


def _older(editions: Json) -> Json:
    return own_of_type(_binder(), older_editions=editions)


def _shipped() -> Iterator[Case]:
    """Yield the experts of a mixture in both editions, and a text model inside another in its older place."""
    fields = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12, "vocab_size": 16}
    fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    config = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], **fields}
    block = "model.layers.0."
    experts: Json = {}
    for expert in (0, 1):
        at = f"{block}block_sparse_moe.experts.{expert}."
        experts[f"{at}w1"] = [slot("mlp_gate", 0, 8, 12, expert=expert)]
        experts[f"{at}w2"] = [slot("mlp_down", 0, 12, 8, expert=expert)]
        experts[f"{at}w3"] = [slot("mlp_up", 0, 8, 12, expert=expert)]
    slots = {
        **experts,
        f"{block}block_sparse_moe.experts.2.w1": None,
        f"{block}block_sparse_moe.gate": [slot("moe_router", 0, 8, 2)],
        f"{block}mlp.experts.gate_up_proj": None,
        f"{block}self_attn.q_proj": [slot("attention_query", 0, 8, 8)],
    }
    binder = shipped("mixtral", "mixtral", with_editions=True)
    description = "Each expert is a module of its own, and the router is linear."
    yield resolve("edition-mixtral", description, binder, config, slots, edition="transformers-4")
    text = {"model_type": "llama", **fields}
    config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "text_config": text}
    binder = shipped("llava", "llava", with_editions=True)
    slots = {
        "language_model.model.layers.0.self_attn.q_proj": [slot("attention_query", 0, 8, 8)],
        "language_model.lm_head": [slot("lm_head", None, 8, 16)],
        "model.language_model.layers.0.self_attn.q_proj": None,
        "lm_head": None,
        "vision_tower.vision_model.encoder.layers.0.mlp.fc1": None,
    }
    description = "The text model and its head stand inside another model."
    yield resolve("edition-llava", description, binder, config, slots, edition="transformers-4.51")
