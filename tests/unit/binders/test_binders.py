"""Binder documents and base configs: what is legal, and what is refused with what was tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import base_model, llama_base
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.bind import bind, bind_paths, describe_base, fused_slots, rotary_structure
from ual_registry.binders.load import binder_for, decode_binder, load_binders
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, StorageError, UnknownArchitectureError, UnresolvedModuleError

LLAMA = json.loads((Path(load_base.__code__.co_filename).parent / "data" / "llama.json").read_text())


def test_every_supported_architecture_has_a_binder() -> None:
    found = {binder.architecture: binder.model_types for binder in load_binders()}
    names = ("bert", "gemma3_text", "gpt2", "gpt_neox", "llama", "qwen2", "roberta", "t5")
    assert found == {name: (name,) for name in names}


def test_an_unknown_model_type_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownArchitectureError) as caught:
        binder_for("Llama")
    assert caught.value.message == (
        "no binder for model_type 'Llama' (known: bert, gemma3_text, gpt2, gpt_neox, llama, qwen2, roberta, t5)"
    )
    assert caught.value.hint == "see CONTRIBUTING.md, 'Add a binder'"


def test_a_binder_that_is_no_json_is_refused() -> None:
    with pytest.raises(BinderDataError) as caught:
        decode_binder(b'{"a":1,"a":2}', what="my.json")
    assert caught.value.message == "my.json: name 'a' stands twice in one object"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"binder_version": "2.0"}, 'my.json.binder_version: "2.0" is not one of "1.0"'),
        ({"colour": "red"}, "my.json: Additional properties are not allowed ('colour' was unexpected)"),
        ({"classes": {}}, "my.json.classes: {} has less than 1 property"),
    ],
)
def test_a_binder_against_its_schema_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinderDataError) as caught:
        decode_binder(json.dumps({**LLAMA, **changes}).encode(), what="my.json")
    assert caught.value.message == message


def test_a_fused_module_without_a_layout_is_refused() -> None:
    document = json.loads(json.dumps(LLAMA))
    document["stacks"][0]["modules"][0]["roles"] = ["attention_query", "attention_key"]
    with pytest.raises(BinderDataError) as caught:
        decode_binder(json.dumps(document).encode(), what="my.json")
    assert caught.value.message == 'my.json.stacks[0].modules[0]: "layout" is a required property'


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_base_model_is_a_folder_or_its_config(tmp_path: Path, as_folder: bool) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    data = json.dumps(dict(llama_base().document)).encode()
    (folder / "config.json").write_bytes(data)
    base = load_base(folder if as_folder else folder / "config.json")
    assert base == BaseConfig(label="my-model", document=llama_base().document, digest=Digest.of_bytes(data))
    assert (base.model_type, base.model_classes) == ("llama", ("LlamaForCausalLM",))


def test_a_missing_base_model_is_told_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        load_base(tmp_path / "none")
    assert caught.value.message == f"cannot read {tmp_path / 'none'}: no such file or folder"
    assert caught.value.hint == (
        "a base model is given as a local model folder or its config.json; for a model on the Hub, "
        "download its config.json first"
    )


def test_a_folder_without_a_config_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        load_base(tmp_path)
    assert caught.value.message == f"cannot read {tmp_path / 'config.json'}: No such file or directory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object"),
        ('{"a":1,"a":1}', "name 'a' stands twice in one object"),
        ('{"a":1e999}', "not JSON in UTF-8: number 1e999 is too large"),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BinderDataError) as caught:
        load_base(path)
    assert caught.value.message == f"{path}: {message}"


@pytest.mark.parametrize("value", [None, 7, ["llama"]])
def test_a_config_without_a_model_type_is_refused(value: Any) -> None:
    with pytest.raises(BinderDataError) as caught:
        describe_base(llama_base(model_type=value))
    assert caught.value.message == "config of tiny: missing model_type"
    assert caught.value.hint == "give the config.json of a transformers model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "no positive number for hidden_size (tried hidden_size)"),
        ({"hidden_size": True}, "no positive number for hidden_size (tried hidden_size)"),
        ({"hidden_size": "4"}, "no positive number for hidden_size (tried hidden_size)"),
        ({"hidden_size": -4}, "no positive number for hidden_size (tried hidden_size)"),
        ({"num_hidden_layers": 2.5}, "num_layers is 2.5, expected a whole number"),
        ({"num_hidden_layers": 10_001}, "num_layers is 10001, over the limit of 10000"),
        ({"vocab_size": 2**31}, "vocab_size is 2147483648, over the limit of 2147483647"),
        (
            {"head_dim": None, "num_attention_heads": 0},
            "no positive number for num_attention_heads (tried num_attention_heads)",
        ),
        ({"head_dim": None, "hidden_size": 5}, "head_dim is 2.5, expected a whole number"),
    ],
)
def test_a_config_that_lacks_a_dimension_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinderDataError) as caught:
        describe_base(llama_base(**changes))
    assert caught.value.message == f"config of tiny: {message}"


def test_a_quotient_by_nothing_is_no_number() -> None:
    base = llama_base(head_dim=None, num_attention_heads=0)
    ways = ("head_dim", {"quotient": ("hidden_size", "num_attention_heads")}, {"product": ("hidden_size", "none")})
    with pytest.raises(BinderDataError) as caught:
        base.number(ways, what="it")
    assert caught.value.message == (
        "config of tiny: no positive number for it (tried head_dim, "
        "{'quotient': ('hidden_size', 'num_attention_heads')}, {'product': ('hidden_size', 'none')})"
    )
    assert base.number((*ways, {"product": ("hidden_size", 3)}), what="it") == 12


def test_a_base_model_without_a_label_is_called_after_its_folder() -> None:
    base = describe_base(llama_base())
    assert (base.id, base.revision, base.model_class, base.weights_digest) == ("tiny", None, None, None)


def test_a_class_that_the_binder_does_not_know_falls_back_to_the_config_and_then_to_the_default() -> None:
    assert bind(llama_base(), "LlamaModel").prefix == ""
    assert bind(llama_base(), "Unknown").prefix == "model."
    assert bind(llama_base(architectures=["LlamaForQuestionAnswering"])).prefix == "transformer."
    assert bind(llama_base(architectures=None)).prefix == "model."
    assert llama_base(architectures=[1, "A"]).model_classes == ("A",)


def test_the_backbone_stands_where_the_paths_say() -> None:
    for prefix in ("", "model.", "transformer."):
        assert bind_paths(llama_base(), [f"{prefix}layers.1.mlp.up_proj"]).prefix == prefix


def test_paths_of_two_backbones_do_not_belong_together() -> None:
    with pytest.raises(UnresolvedModuleError) as caught:
        bind_paths(llama_base(), ["model.layers.0.mlp.up_proj", "layers.1.mlp.up_proj"])
    assert caught.value.message == "layers.1.mlp.up_proj: no such module in tiny, which has 2 layers"


def test_a_module_that_is_not_fused_has_no_fused_slots() -> None:
    for path in ("gpt_neox.layers.0.mlp.dense_h_to_4h", "query_key_value", "layers.0.xattention.query_key_value"):
        with pytest.raises(UnresolvedModuleError) as caught:
            fused_slots(base_model(), None, path)
        assert caught.value.message == f"{path}: architecture gpt_neox has no fused module there"
    with pytest.raises(UnresolvedModuleError):
        fused_slots(base_model(), "encoder", "gpt_neox.layers.0.attention.query_key_value")


def test_the_usual_rotary_fraction_is_taken_where_no_config_is_at_hand() -> None:
    found = rotary_structure(base_model())
    assert (found.style, found.head_dim, found.rotated) == ("half", 2, 0)
