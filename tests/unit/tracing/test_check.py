"""A binder document is checked against the real classes: right ones pass, and each way to be wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.load import INDEX, decode_binder
from ual_registry.binders.model import Binder
from ual_registry.digest import Digest
from ual_registry.errors import UnknownArchitectureError
from ual_registry.tracing.check import BinderCheck, check, default_config

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks on odd sizes

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "phi3": {"num_key_value_heads": 4, **SIZES},
    "llama": {"num_key_value_heads": 4, **SIZES},
    "gpt_neox": SIZES,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2},
}
CLASSES = {
    "phi3": ("Phi3ForCausalLM", ""),
    "llama": ("LlamaForCausalLM", "LlamaModel"),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXModel"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Model"),
}
Edit = Callable[[dict[str, Any]], None]


def base(name: str, **fields: Any) -> BaseConfig:
    document = {"model_type": name, **CONFIGS[name], **fields}
    return BaseConfig(label=name, document=document, digest=Digest.of_bytes(b""))


def edited(name: str, edit: Edit) -> Binder:
    """Return a shipped binder for one model type and its first and its plain class, changed."""
    document = json.loads((INDEX.parent / "data" / f"{name}.json").read_text(encoding="utf-8"))
    kind = document["model_types"][name]
    classes = {prefix: [item for item in CLASSES[name] if item in names] for prefix, names in kind["classes"].items()}
    kind["classes"] = {prefix: names for prefix, names in classes.items() if names}
    document["model_types"] = {name: kind}
    edit(document)
    return decode_binder(json.dumps(document).encode(), what=f"{name}.json")


def modules(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["stacks"][0]["modules"]


def nothing(document: dict[str, Any]) -> None:
    """Leave a document as it is."""


def swapped(one: str, other: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for module in modules(document):
            module["roles"] = [{one: other, other: one}.get(role, role) for role in module["roles"]]

    return edit


def laid_out_as(layout: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for module in modules(document):
            if "layout" in module:
                module["layout"] = layout

    return edit


def without_up(document: dict[str, Any]) -> None:
    document["stacks"][0]["modules"] = [module for module in modules(document) if module["path"] != "mlp.up_proj"]


def misspelt(document: dict[str, Any]) -> None:
    for module in modules(document):
        module["path"] = module["path"].replace("up_proj", "upward")


def narrow(document: dict[str, Any]) -> None:
    document["stacks"][0]["dimensions"]["intermediate_size"] = ["hidden_size"]


def in_one_block(document: dict[str, Any]) -> None:
    for module in modules(document):
        if module["path"] == "mlp.up_proj":
            module["layers"] = [{"from": 1}]


def with_nothing(document: dict[str, Any]) -> None:
    document["model_types"]["llama"]["classes"][""].append("LlamaForNothing")


def twice(document: dict[str, Any]) -> None:
    modules(document).append({"path": "mlp.gate_proj", "roles": ["mlp_up"]})


def without_conv1d(document: dict[str, Any]) -> None:
    for module in modules(document):
        module.pop("weight", None)


def checked(name: str, edit: Edit, **fields: Any) -> list[BinderCheck]:
    return list(check(edited(name, edit), base(name, **fields)))


def faults(checks: list[BinderCheck]) -> dict[str, tuple[str, ...]]:
    return {f"{item.name} of {item.subject}": item.faults for item in checks if item.faults}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_binder_is_right(name: str) -> None:
    found = checked(name, nothing)

    listed = sorted(filter(None, CLASSES[name]))
    steps = [(step, f"{name}, {item}") for item in listed for step in ("law", "modules", "coverage")]
    assert sorted((item.name, item.subject) for item in found) == sorted(
        [*steps, ("function", f"{name}, {CLASSES[name][0]}")]
    )
    assert [(item.faults, item.undecided) for item in found] == [((), None)] * len(found)


def of_each(step: str, text: str) -> dict[str, tuple[str, ...]]:
    """Return what is told of both classes of llama, whose backbone stands at two places."""
    return {
        f"{step} of llama, LlamaModel": tuple(text.replace("@", "").split("\n")),
        f"{step} of llama, LlamaForCausalLM": tuple(text.replace("@", "model.").split("\n")),
    }


def stored(prefix: str) -> tuple[str, ...]:
    return tuple(
        f"{prefix}h.{{layer}}.{path}: the weight is stored as conv1d, the binder says otherwise (in 2 blocks)"
        for path in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    )


FUNCTION = "function of llama, LlamaForCausalLM"
UNKNOWN = "@layers.{layer}.mlp.up_proj: stands neither among the modules nor in without_role"
NO_ROLE = "the binder says no role, its function is mlp_up"
WRONG: dict[str, tuple[str, Edit, dict[str, tuple[str, ...]]]] = {
    "gate and up swapped in the rows of a module": (
        "phi3",
        swapped("mlp_gate", "mlp_up"),
        {
            "function of phi3, Phi3ForCausalLM": (
                (
                    "model.layers.{layer}.mlp.gate_up_proj: the binder says mlp_up in rows 0 to 19, mlp_gate in rows "
                    "20 to 39, its function is mlp_gate in rows 0 to 19, mlp_up in rows 20 to 39 (in 2 blocks)"
                ),
            )
        },
    ),
    "query and value swapped": (
        "llama",
        swapped("attention_query", "attention_value"),
        {
            FUNCTION: (
                (
                    "model.layers.{layer}.self_attn.q_proj: the binder says attention_value, its function is "
                    "attention_query (in 2 blocks)"
                ),
                (
                    "model.layers.{layer}.self_attn.v_proj: the binder says attention_query, its function is "
                    "attention_value (in 2 blocks)"
                ),
            )
        },
    ),
    "the rows of a fused module in one block each": (
        "gpt_neox",
        laid_out_as("contiguous"),
        {
            "function of gpt_neox, GPTNeoXForCausalLM": (
                (
                    "gpt_neox.layers.{layer}.attention.query_key_value: the binder says attention_query in rows 0 to "
                    "15, attention_key in rows 16 to 31, attention_value in rows 32 to 47, its function is "
                    "attention_query in 4 blocks of 4 rows from 0, 12 apart, attention_key in 4 blocks of 4 rows from "
                    "4, 12 apart, attention_value in 4 blocks of 4 rows from 8, 12 apart (in 2 blocks)"
                ),
            )
        },
    ),
    "a module that is missing": (
        "llama",
        without_up,
        {
            **of_each("coverage", f"{UNKNOWN} (in 2 blocks)"),
            FUNCTION: (f"model.layers.{{layer}}.mlp.up_proj: {NO_ROLE} (in 2 blocks)",),
        },
    ),
    "a module that is missing in one block": (
        "llama",
        in_one_block,
        {
            **of_each("coverage", UNKNOWN.replace("{layer}", "0")),
            FUNCTION: (f"model.layers.0.mlp.up_proj: {NO_ROLE}",),
        },
    ),
    "a module that the class does not have": (
        "llama",
        misspelt,
        {
            **of_each("modules", "@layers.{layer}.mlp.upward: the class has no such module (in 2 blocks)"),
            **of_each("coverage", f"{UNKNOWN} (in 2 blocks)"),
            FUNCTION: (f"model.layers.{{layer}}.mlp.up_proj: {NO_ROLE} (in 2 blocks)",),
        },
    ),
    "a wrong dimension": (
        "llama",
        narrow,
        of_each(
            "modules",
            "\n".join(
                f"@layers.{{layer}}.mlp.{path}: the config gives (16, 16), the class has {shape} (in 2 blocks)"
                for path, shape in {"gate_proj": (20, 16), "up_proj": (20, 16), "down_proj": (16, 20)}.items()
            ),
        ),
    ),
    "a class that transformers lacks": (
        "llama",
        with_nothing,
        {"modules of llama, LlamaForNothing": ("transformers has no class LlamaForNothing for it",)},
    ),
    "conv1d forgotten": (
        "gpt2",
        without_conv1d,
        {
            "modules of gpt2, GPT2LMHeadModel": stored("transformer."),
            "modules of gpt2, GPT2Model": stored(""),
        },
    ),
    "one module with two roles": (
        "llama",
        twice,
        {
            **of_each(
                "law",
                "\n".join(f"2 modules fill one slot: the stack, layer {layer}, mlp_up" for layer in (0, 1)),
            ),
            FUNCTION: (
                "model.layers.{layer}.mlp.gate_proj: the binder says mlp_up, its function is mlp_gate (in 2 blocks)",
            ),
        },
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_binder_is_told_what_is_wrong_and_nothing_else(case: str) -> None:
    name, edit, expected = WRONG[case]
    found = checked(name, edit)

    assert faults(found) == expected
    assert {item.undecided for item in found} == {None}


def test_a_model_that_cannot_be_built_is_not_checked_and_that_is_said() -> None:
    found = checked("llama", nothing, hidden_act="none")

    assert faults(found) == {}
    assert [(item.name, item.subject, item.undecided) for item in found if item.undecided] == [
        ("modules", "llama, LlamaModel", "it cannot be built: KeyError: 'none'"),
        ("modules", "llama, LlamaForCausalLM", "it cannot be built: KeyError: 'none'"),
        ("function", "llama, LlamaForCausalLM", "no small LlamaForCausalLM can be built: KeyError: 'none'"),
    ]


def test_a_config_that_transformers_refuses_is_not_checked_and_that_is_said() -> None:
    found = checked("llama", nothing, rms_norm_eps="wide")

    assert faults(found) == {}
    assert [item.name for item in found] == ["law", "modules", "law", "modules", "function"]
    for item in found:
        if item.name != "law":
            assert item.undecided is not None
            assert item.undecided.startswith("LlamaConfig refuses the config: ")


def test_a_binder_for_another_model_type_is_refused() -> None:
    with pytest.raises(UnknownArchitectureError) as refused:
        list(check(edited("llama", nothing), base("gpt2")))
    assert refused.value.message == "binder 'llama' is not for model_type 'gpt2' (known: llama)"


def test_the_default_config_is_the_one_that_transformers_has() -> None:
    found = default_config("gpt_neox")
    assert (found.label, found.model_type, found.document["hidden_size"]) == ("default gpt_neox", "gpt_neox", 6144)
