"""Binder documents and base configs: what is legal, and what is refused with what was tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import base_model, llama_base
from ual_registry.air.model import RowSlice
from ual_registry.binders import load
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.bind import apply_binder, bind, bind_paths, fused_slots
from ual_registry.binders.describe import describe_base, rotary_structure
from ual_registry.binders.fields import ConfigFields
from ual_registry.binders.load import (
    binder_for,
    decode_binder,
    find_binder,
    known_model_types,
    load_binders,
    make_index,
)
from ual_registry.binders.model import ModelType
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import (
    AmbiguousArchitectureError,
    BinderDataError,
    StorageError,
    UnknownArchitectureError,
    UnresolvedModuleError,
)

DATA = load.INDEX.parent / "data"


def own_binder(**changes: Any) -> dict[str, Any]:
    """Return a small binder of a made-up architecture."""
    return {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": {"own": {"default_class": "OwnModel", "classes": {"": ["OwnModel"]}}},
        "vocab_size": ["vocab"],
        "rotary": {"style": "none"},
        "norms": {"kind": "rms", "position": "pre"},
        "stacks": [
            {
                "path": "blocks.{layer}.",
                "dimensions": {"hidden_size": ["width"], "num_layers": ["depth"], "intermediate_size": ["inner"]},
                "modules": [{"path": "up", "roles": ["mlp_up"]}, {"path": "down", "roles": ["mlp_down"]}],
            }
        ],
        "outer": [],
        "without_role": ["{backbone}tower.{index}.fc"],
        **changes,
    }


def own_base(**changes: Any) -> BaseConfig:
    document = {"model_type": "own", "vocab": 9, "width": 4, "depth": 3, "inner": 8, **changes}
    return BaseConfig(label="tiny", document=document, digest=Digest.of_bytes(b"own"))


def own_paths(changes: dict[str, Any], **config: Any) -> list[str]:
    """Return the module paths of the made-up architecture with a changed first module."""
    document = own_binder()
    document["stacks"][0]["modules"][0].update(changes)
    binder = decode_binder(json.dumps(document).encode(), what="own.json")
    return [path for path in apply_binder(binder, own_base(**config)).modules if path.endswith("up")]


def test_the_index_is_that_of_the_documents() -> None:
    assert load.INDEX.read_text() == make_index()


def test_a_document_is_named_after_its_architecture_and_indented_alike() -> None:
    for path in sorted(DATA.glob("*.json")):
        document = json.loads(path.read_text())
        assert (document["architecture"], path.read_text()) == (path.stem, json.dumps(document, indent=2) + "\n")


def test_an_unknown_model_type_is_told_with_those_that_are_spelled_alike() -> None:
    with pytest.raises(UnknownArchitectureError) as caught:
        binder_for("Llama")
    count = len(known_model_types())
    assert (
        caught.value.message
        == f"no binder for model_type 'Llama' (alike: llama, mllama, llama4, llava; known: {count})"
    )
    assert caught.value.hint == (
        "'ual binder list' shows those that are known, 'ual binder infer BASE' may find one; "
        "see CONTRIBUTING.md, 'Add a binder'"
    )
    with pytest.raises(UnknownArchitectureError, match=rf"^no binder for model_type '' \(known: {count}\)$"):
        binder_for("")


def test_a_binder_is_found_by_its_architecture_and_by_each_of_its_model_types() -> None:
    assert find_binder("gpt_neox") is find_binder("gpt_neox")
    assert find_binder("mistral").architecture == binder_for("mistral").architecture == "llama"
    with pytest.raises(UnknownArchitectureError) as caught:
        find_binder("Llama")
    known = ", ".join(binder.architecture for binder in load_binders())
    assert caught.value.message == f"no binder for architecture or model_type 'Llama' (architectures: {known})"


def test_a_look_up_reads_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = load.read_at_most

    def spy(path: Path, **limits: int) -> bytes | None:
        read.append(path.name)
        return original(path, **limits)

    monkeypatch.setattr(load, "read_at_most", spy)
    binder_for("llama")
    assert read == ["llama.json"]


def test_a_document_that_a_user_names_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(own_binder()))
    monkeypatch.setenv("UAL_BINDERS", str(path))
    assert binder_for("own").architecture == "own"
    assert "own" in known_model_types()
    assert list(bind(own_base()).modules) == [f"blocks.{layer}.{name}" for name in ("up", "down") for layer in range(3)]


def test_two_documents_for_one_model_type_are_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(own_binder(model_types={"llama": own_binder()["model_types"]["own"]})))
    monkeypatch.setenv("UAL_BINDERS", str(path))
    for look_up in (lambda: binder_for("llama"), load_binders):
        with pytest.raises(AmbiguousArchitectureError) as caught:
            look_up()
        assert caught.value.message == "model_type 'llama' is held by two binders, llama and own"


def test_a_document_that_is_named_but_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAL_BINDERS", str(tmp_path / "none.json"))
    with pytest.raises(StorageError) as caught:
        binder_for("llama")
    assert caught.value.message == f"cannot read {tmp_path / 'none.json'}: No such file or directory"


def test_the_documents_of_an_installed_package_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_binders"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('never imported')")
    (package / "own.json").write_text(json.dumps(own_binder()))
    info = tmp_path / "my_binders-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-binders\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ual_registry.binders]\nmine = my_binders\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load.forget()
    try:
        assert binder_for("own").architecture == "own"
        (info / "entry_points.txt").write_text("[ual_registry.binders]\nmine = no_such_package\n")
        load.forget()
        with pytest.raises(BinderDataError) as caught:
            binder_for("own")
        assert caught.value.message == (
            "entry point 'mine' of ual_registry.binders: 'no_such_package' is no installed package"
        )
    finally:
        monkeypatch.undo()
        load.forget()


def test_a_document_is_read_up_to_the_limit_of_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(own_binder())
    path = tmp_path / "own.json"
    path.write_text(text + " " * (2 << 20))  # more than any document of ours, and far from the limit
    monkeypatch.setenv("UAL_BINDERS", str(path))
    assert binder_for("own") == load.load_binder(path) == decode_binder(text.encode(), what="own.json")
    monkeypatch.setattr(load, "_MAX_BYTES", len(text))
    path.write_text(text)
    assert binder_for("own").architecture == "own"
    path.write_text(f"{text}  ")
    with pytest.raises(BinderDataError) as caught:
        binder_for("own")
    assert (caught.value.problem_code, caught.value.message) == (
        "binder-data",
        f"{path}: over the limit of {len(text)} bytes",
    )


def test_a_binder_that_is_no_json_is_refused() -> None:
    with pytest.raises(BinderDataError) as caught:
        decode_binder(b'{"a":1,"a":2}', what="my.json")
    assert caught.value.message == "my.json: name 'a' stands twice in one object"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"binder_version": "2.0"}, 'my.json.binder_version: "2.0" is not one of "1.0"'),
        ({"colour": "red"}, "my.json: Additional properties are not allowed ('colour' was unexpected)"),
        ({"model_types": {}}, "my.json.model_types: {} has less than 1 property"),
        (
            {"model_types": {"own": {"default_class": "Other", "classes": {"": ["OwnModel"]}}}},
            "my.json.model_types.own.default_class: 'Other' is not in classes",
        ),
    ],
)
def test_a_binder_against_its_schema_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinderDataError) as caught:
        decode_binder(json.dumps(own_binder(**changes)).encode(), what="my.json")
    assert caught.value.message == message


def test_a_fused_module_without_a_layout_is_refused() -> None:
    document = own_binder()
    document["stacks"][0]["modules"][0]["roles"] = ["mlp_gate", "mlp_up"]
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
    assert caught.value.hint == "a base model is given as a model folder, its config.json, or OWNER/NAME on the Hub"


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
        ({"hidden_size": None}, "no positive number for hidden_size (tried hidden_size, text_config.hidden_size)"),
        ({"hidden_size": True}, "no positive number for hidden_size (tried hidden_size, text_config.hidden_size)"),
        ({"hidden_size": "4"}, "no positive number for hidden_size (tried hidden_size, text_config.hidden_size)"),
        ({"hidden_size": -4}, "no positive number for hidden_size (tried hidden_size, text_config.hidden_size)"),
        ({"num_hidden_layers": 2.5}, "num_layers is 2.5, expected a whole number"),
        ({"num_hidden_layers": 10_001}, "num_layers is 10001, over the limit of 10000"),
        ({"vocab_size": 2**31}, "vocab_size is 2147483648, over the limit of 2147483647"),
        (
            {"head_dim": None, "num_attention_heads": 0},
            "no positive number for num_attention_heads (tried num_attention_heads, text_config.num_attention_heads)",
        ),
        ({"head_dim": None, "hidden_size": 5}, "head_dim is 2.5, expected a whole number"),
    ],
)
def test_a_config_that_lacks_a_dimension_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinderDataError) as caught:
        describe_base(llama_base(**changes))
    assert caught.value.message == f"config of tiny: {message}"


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        (["width"], 4),
        (["none", "width"], 4),
        (["zero", 7], 7),
        ([{"quotient": ["inner", "zero"]}, 7], 7),
        ([{"quotient": ["inner", 3]}], 8 / 3),
        ([{"product": ["width", "none"]}, {"product": ["width", 3]}], 12),
        ([{"product": [2**53 + 1, 3]}], 3 * (2**53 + 1)),
        ([{"sum": ["width", -1]}], 3),
        ([{"sum": [{"product": ["width", "inner"]}, {"quotient": ["inner", 2]}]}], 36),
        ([{"item": ["list", 1]}], 6),
        ([{"item": ["list", 9]}, 7], 7),
        ([{"item": ["width", 0]}, 7], 7),
        ([{"item": ["list", 2]}, 7], 7),
        (["usual"], 11),
        (["null", 7], 7),
        (["deep.er"], 3),
        (["deep.er.est", 7], 7),
        (["other.field"], 5),
    ],
)
def test_a_number_is_found_in_the_first_way_that_yields_one(ways: list[Any], expected: float) -> None:
    config = own_base(zero=0, list=[5, 6, True], null=None, deep={"er": 3})
    kind = ModelType(default_class="A", classes={}, defaults={"usual": 11, "null": 12, "width": 99, "other.field": 5})
    assert ConfigFields(config, kind).number(tuple(ways), what="it") == expected


def test_a_number_that_is_not_there_is_told_with_what_was_tried() -> None:
    ways = ("head_dim", {"quotient": ("width", "heads")}, {"product": ("width", "none")})
    with pytest.raises(BinderDataError) as caught:
        ConfigFields(own_base(), ModelType(default_class="A", classes={})).number(ways, what="it")
    assert caught.value.message == (
        "config of tiny: no positive number for it (tried head_dim, "
        "{'quotient': ('width', 'heads')}, {'product': ('width', 'none')})"
    )


def test_fields_stand_below_the_object_that_the_model_type_names() -> None:
    config = own_base(text_config={"width": 6}, model_type="own")
    fields = ConfigFields(config, ModelType(default_class="A", classes={}, config="text_config", defaults={"inner": 5}))
    assert [fields.value(name) for name in ("width", "inner", "depth", "model_type")] == [6, 5, None, "own"]
    elsewhere = ConfigFields(config, ModelType(default_class="A", classes={}, config="none", defaults={"inner": 5}))
    assert [elsewhere.value(name) for name in ("width", "inner")] == [None, 5]


@pytest.mark.parametrize(
    ("conditions", "config", "layers"),
    [
        ([{"in": "dense"}], {"dense": [0, 2]}, [0, 2]),
        ([{"in": "dense"}], {"dense": None}, []),
        ([{"in": "dense"}], {}, []),
        ([{"not_in": "dense"}], {"dense": [0, 2]}, [1]),
        ([{"not_in": "dense"}], {}, [0, 1, 2]),
        ([{"item_of": "kinds", "values": ["full"]}], {"kinds": ["full", "sliding", "full"]}, [0, 2]),
        ([{"item_of": "kinds", "values": ["full", None]}], {"kinds": ["sliding"]}, [1, 2]),
        ([{"item_of": "kinds", "values": [None]}], {}, [0, 1, 2]),
        ([{"from": "first"}], {"first": 1}, [1, 2]),
        ([{"from": "first"}], {"first": 0}, [0, 1, 2]),
        ([{"from": "first", "before": 2}], {"first": 1}, [1]),
        ([{"before": "first"}], {"first": 0}, []),
        ([{"from": "first", "before": "last"}], {}, [0, 1, 2]),
        ([{"every": "step", "shift": 1}], {"step": 2}, [1]),
        ([{"every": 2}], {}, [0, 2]),
        ([{"from": 1}, {"every": 2}], {}, [2]),
    ],
)
def test_a_module_exists_in_the_blocks_that_satisfy_its_conditions(
    conditions: list[Any], config: dict[str, Any], layers: list[int]
) -> None:
    paths = [f"blocks.{layer}.up" for layer in range(3)]
    assert own_paths({"layers": conditions}, **config) == [paths[layer] for layer in layers]
    assert own_paths({"unless_layers": conditions}, **config) == [
        path for layer, path in enumerate(paths) if layer not in layers
    ]


@pytest.mark.parametrize(
    ("conditions", "config", "message"),
    [
        ([{"in": "dense"}], {"dense": 3}, "dense is no list of block indices"),
        ([{"not_in": "dense"}], {"dense": [True]}, "dense is no list of block indices"),
        ([{"every": "step"}], {"step": 1.5}, "every is 1.5, expected a whole number"),
        ([{"every": "step"}], {"step": 0}, "no positive number for every (tried step)"),
    ],
)
def test_a_condition_on_blocks_that_the_config_cannot_answer_is_refused(
    conditions: list[Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(BinderDataError) as caught:
        own_paths({"layers": conditions}, **config)
    assert caught.value.message == f"config of tiny: {message}"


@pytest.mark.parametrize(
    ("changes", "config", "exists"),
    [
        ({"when": [{"field": "a", "values": [1, None]}]}, {}, True),
        ({"when": [{"field": "a", "values": [1]}]}, {"a": 1.0}, True),
        ({"when": [{"field": "a", "values": [1]}]}, {"a": True}, False),
        ({"when": [{"field": "a", "values": [1]}, {"field": "b", "values": [2]}]}, {"a": 1}, False),
        ({"unless": [{"field": "a", "values": [1]}, {"field": "b", "values": [2]}]}, {"a": 1}, True),
        ({"unless": [{"field": "a", "values": [1]}, {"field": "b", "values": [2]}]}, {"a": 1, "b": 2}, False),
        ({"when": [{"field": "model_type", "values": ["own"]}]}, {}, True),
    ],
)
def test_a_module_exists_where_its_conditions_say(
    changes: dict[str, Any], config: dict[str, Any], exists: bool
) -> None:
    assert own_paths(changes, **config) == (["blocks.0.up", "blocks.1.up", "blocks.2.up"] if exists else [])


def test_a_value_that_the_binder_does_not_know_is_refused() -> None:
    binder = decode_binder(
        json.dumps(own_binder(known_values={"form": ["plain", None], "deep.er": [1]})).encode(), what="own.json"
    )
    with pytest.raises(BinderDataError) as caught:
        apply_binder(binder, own_base(form="odd"))
    assert caught.value.message == ("config of tiny: form is 'odd' (known: 'plain', None); deep.er is None (known: 1)")
    assert len(apply_binder(binder, own_base(deep={"er": 1})).modules) == 6


def test_a_role_whose_dimension_is_missing_is_refused() -> None:
    document = own_binder()
    document["stacks"][0]["modules"].append({"path": "q", "roles": ["attention_query"]})
    with pytest.raises(BinderDataError) as caught:
        apply_binder(decode_binder(json.dumps(document).encode(), what="own.json"), own_base())
    assert caught.value.message == (
        "binder own: attention_query needs a dimension for query_heads, which the stack lacks"
    )


def test_experts_have_a_module_each_or_share_a_parameter() -> None:
    document = own_binder()
    stack = document["stacks"][0]
    stack["dimensions"] |= {"num_experts": ["experts"], "expert_intermediate_size": ["narrow"]}
    stack["modules"] = [
        {"path": "e.{expert}.down", "roles": ["mlp_down"], "layers": [{"before": 1}]},
        {
            "path": "e",
            "parameter": "gate_up",
            "roles": ["mlp_gate", "mlp_up"],
            "layout": "interleaved",
            "layers": [{"before": 1}],
        },
    ]
    binder = decode_binder(json.dumps(document).encode(), what="own.json")
    modules = apply_binder(binder, own_base(experts=2, narrow=3)).modules

    def rows(offset: int) -> RowSlice:
        return RowSlice(offset=offset, block=1, stride=2, count=3)

    assert modules == {
        **{
            f"blocks.0.e.{expert}.down": TargetModule(
                path=f"blocks.0.e.{expert}.down",
                slots=(Slot(stack=None, layer=0, role="mlp_down", expert=expert, in_features=3, out_features=4),),
            )
            for expert in range(2)
        },
        "blocks.0.e.gate_up": TargetModule(
            path="blocks.0.e.gate_up",
            parameter="gate_up",
            slots=tuple(
                Slot(stack=None, layer=0, role=role, expert=expert, in_features=4, out_features=3, rows=rows(offset))
                for expert in range(2)
                for offset, role in enumerate(("mlp_gate", "mlp_up"))
            ),
        ),
    }
    assert apply_binder(binder, own_base(narrow=3)).modules == {}


def test_rows_that_cannot_be_cut_into_equal_blocks_are_refused() -> None:
    document = own_binder()
    document["stacks"][0]["dimensions"] |= {"num_attention_heads": ["heads"]}
    document["stacks"][0]["modules"][0] = {"path": "up", "roles": ["mlp_gate", "mlp_up"], "layout": "per_head"}
    with pytest.raises(BinderDataError) as caught:
        apply_binder(decode_binder(json.dumps(document).encode(), what="own.json"), own_base(heads=3))
    assert caught.value.message == (
        "rows of a fused module (mlp_gate 8, mlp_up 8) cannot be cut into 3 equal blocks each"
    )


def test_paths_without_a_role_may_hold_a_number() -> None:
    binding = apply_binder(decode_binder(json.dumps(own_binder()).encode(), what="own.json"), own_base())
    assert [binding.knows(path) for path in ("tower.0.fc", "tower.12.fc", "tower.x.fc", "tower.0.fc2")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_class_that_holds_one_stack_has_the_modules_of_that_stack() -> None:
    document = {
        "model_type": "t5",
        "d_model": 4,
        "num_layers": 1,
        "num_heads": 2,
        "d_kv": 2,
        "d_ff": 8,
        "vocab_size": 9,
    }
    base = BaseConfig(label="tiny", document=document, digest=Digest.of_bytes(b"t5"))
    stacks = {
        name: {slot[0] for slot in bind(base, name).slots() if slot[1] is not None}
        for name in ("T5EncoderModel", "T5Model")
    }
    assert stacks == {"T5EncoderModel": {"encoder"}, "T5Model": {"encoder", "decoder"}}


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


def test_every_path_that_is_no_module_is_named() -> None:
    with pytest.raises(UnresolvedModuleError) as caught:
        bind_paths(llama_base(), [f"model.layers.{layer}.mlp.up_proj" for layer in range(10)])
    named = ", ".join(f"model.layers.{layer}.mlp.up_proj" for layer in range(3, 8))
    assert caught.value.message == (
        f"model.layers.2.mlp.up_proj: no such module in tiny, which has 2 layers; nor are 7 more: {named}, ..."
    )


def test_a_module_that_is_not_fused_has_no_fused_slots() -> None:
    for path in ("gpt_neox.layers.0.mlp.dense_h_to_4h", "query_key_value", "layers.0.xattention.query_key_value"):
        with pytest.raises(UnresolvedModuleError) as caught:
            fused_slots(base_model(), None, path, {})
        assert caught.value.message == f"{path}: architecture gpt_neox has no fused module there"
    with pytest.raises(UnresolvedModuleError):
        fused_slots(base_model(), "encoder", "gpt_neox.layers.0.attention.query_key_value", {})


def test_the_usual_rotary_fraction_is_taken_where_no_config_is_at_hand() -> None:
    found = rotary_structure(base_model())
    assert (found.style, found.head_dim, found.rotated) == ("half", 2, 0)
