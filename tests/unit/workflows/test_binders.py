"""What binders there are and what one says, and checking a document: what the workflows answer."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ual_registry.air.model import Stack
from ual_registry.binders.load import BINDERS_VARIABLE, INDEX, find_binder, load_binders
from ual_registry.binders.model import Condition, Module, OuterModule
from ual_registry.errors import (
    BinderDataError,
    MissingExtraError,
    StorageError,
    UALError,
    UninferableArchitectureError,
    UnknownArchitectureError,
)
from ual_registry.workflows.binder_files import is_document, read_config, read_document, read_either
from ual_registry.workflows.binders import BinderSummary, list_binders, show_binder
from ual_registry.workflows.check_binder import BinderReport, check_binder

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks on odd sizes

OWN: dict[str, Any] = {
    "binder_version": "1.0",
    "architecture": "own",
    "model_types": {
        "own": {"default_class": "OwnModel", "classes": {"model.": ["OwnModel"], "": ["Plain"]}},
        "other": {"default_class": "OtherModel", "classes": {"": ["OtherModel"]}},
    },
    "vocab_size": ["vocab_size"],
    "rotary": {"style": "half"},
    "norms": {"kind": "rms", "position": "pre"},
    "stacks": [
        {
            "path": "blocks.{layer}.",
            "dimensions": {"hidden_size": ["hidden_size"], "num_layers": ["num_layers"], "intermediate_size": [5]},
            "modules": [
                {"path": "fused", "roles": ["mlp_gate", "mlp_up"], "layout": "contiguous"},
                {"path": "down", "roles": ["mlp_down"]},
            ],
        }
    ],
    "outer": [],
    "without_role": [],
}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(OWN), encoding="utf-8")
    return path


def config(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder


def test_every_binder_is_summed_up(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = list_binders()
    assert [item.architecture for item in shipped] == [binder.architecture for binder in load_binders()]

    monkeypatch.setenv(BINDERS_VARIABLE, str(document))
    (added,) = [item for item in list_binders() if item not in shipped]
    assert added == BinderSummary(
        architecture="own",
        model_types=("own", "other"),
        stacks=1,
        roles=("mlp_gate", "mlp_up", "mlp_down"),
        fused=1,
        rotary={"own": "half", "other": "half"},
    )


@pytest.mark.parametrize(
    ("name", "model_type"), [("qwen2", "qwen2"), ("deepseek_v3", "deepseek_v3"), ("llava", "llava")]
)
def test_a_binder_is_shown_for_the_type_that_is_named(name: str, model_type: str) -> None:
    shown = show_binder(name)
    assert (shown.binder, shown.model_type, shown.base) == (find_binder(name), model_type, None)
    assert shown.config.document == {"model_type": model_type}


def test_an_architecture_that_is_no_type_is_shown_for_its_first_type() -> None:
    assert show_binder("nomic_bert").model_type == "nomic_bert"
    assert show_binder("opt").model_type == "opt"


def test_a_document_is_shown_for_its_first_type(document: Path) -> None:
    shown = show_binder(str(document))
    assert (shown.binder.architecture, shown.model_type, shown.base) == ("own", "own", None)


def test_a_model_is_shown_with_its_dimensions(tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINDERS_VARIABLE, str(document))
    base = config(
        tmp_path / "base", model_type="own", hidden_size=8, num_layers=3, vocab_size=9, architectures=["Plain"]
    )
    for path in (base, base / "config.json"):
        shown = show_binder(str(path))
        assert shown.base is not None
        assert shown.base.stacks == (Stack(hidden_size=8, num_layers=3, intermediate_size=5),)
        assert (shown.model_type, shown.prefix_in(None)) == ("own", "")


def test_the_backbone_stands_where_the_named_class_has_it_or_else_the_default_one(document: Path) -> None:
    assert show_binder(str(document)).prefix_in(None) == "model."


def test_the_backbone_of_an_older_edition_stands_where_it_stood() -> None:
    shown = show_binder("mllama")
    assert [(edition, shown.prefix_in(edition)) for edition in shown.editions] == [
        ("transformers-5", "model.language_model."),
        ("transformers-4.51", "language_model.model."),
    ]


def having(field: str, *values: Any) -> tuple[Condition, ...]:
    return (Condition(field=field, values=values),)


@pytest.mark.parametrize(
    ("conditions", "is_of_type", "holds"),
    [
        ({}, True, True),
        ({"when": having("model_type", "gpt2")}, True, True),
        ({"when": having("model_type", "t5")}, False, False),
        ({"when": having("add_cross_attention", True)}, True, False),
        ({"unless": having("model_type", "gpt2")}, False, False),
        ({"unless": having("model_type", "t5")}, True, True),
        ({"unless": (*having("model_type", "gpt2"), *having("add_cross_attention", True))}, True, True),
    ],
    ids=str,
)
def test_what_a_type_can_hold_and_holds_by_default(
    *, conditions: dict[str, Any], is_of_type: bool, holds: bool
) -> None:
    shown = show_binder("gpt2")
    for item in (
        Module(path="a", roles=("mlp_up",), **conditions),
        OuterModule(path="a", role="lm_head", within="model", **conditions),
    ):
        assert (shown.is_of_type(item), shown.holds(item)) == (is_of_type, holds)


def test_the_blocks_of_a_module_follow_from_its_conditions() -> None:
    shown = show_binder("gpt2")
    module = Module(path="a", roles=("mlp_up",), layers=({"from": 1},), unless_layers=({"every": 2},))
    assert shown.blocks(module, 6) == (1, 3, 5)
    assert shown.blocks(Module(path="a", roles=("mlp_up",)), 3) == (0, 1, 2)


def test_a_large_config_is_shown_with_its_blocks(tmp_path: Path) -> None:
    base = config(
        tmp_path / "llama-405b",
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=126,
        num_attention_heads=128,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    shown = show_binder(str(base))
    assert shown.base is not None
    assert {name: value for name, value in asdict(shown.base.stacks[0]).items() if value is not None} == {
        "hidden_size": 16384,
        "num_layers": 126,
        "num_attention_heads": 128,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 53248,
    }
    assert len(shown.blocks(shown.binder.stacks[0].modules[0], 126)) == 126


GIVE = "give a binder document, a base model's folder, or its config.json"
FOLDER = "give the folder of a base model, in which its config.json is, or that file"
WRITES = "`ual binder infer BASE -o FILE` writes a binder document"


def refused(call: Any, path: Path, kind: type[UALError]) -> tuple[str, str | None]:
    """Return message and hint of a refusal, without the folder that the test is in."""
    with pytest.raises(kind) as caught:
        call(path)
    before = f"{path.parent}/"
    hint = caught.value.hint
    assert type(caught.value) is kind
    return caught.value.message.replace(before, ""), hint.replace(before, "") if hint else None


def test_a_document_and_a_config_are_told_apart(tmp_path: Path, document: Path) -> None:
    base = config(tmp_path / "base", model_type="llama")
    assert [is_document(read_either(path)) for path in (document, base, base / "config.json")] == [True, False, False]
    assert read_config(base).document == {"model_type": "llama"}
    assert read_document(document).architecture == "own"


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text('{"model_type": 7}')
    told = ("card.json: neither a binder document (no binder_version) nor a base model's config (no model_type)", GIVE)
    for call in (read_either, read_config, read_document):
        assert refused(call, path, BinderDataError) == told
    path.write_text("[]")
    assert refused(read_either, path, BinderDataError) == ("card.json: expected a JSON object", GIVE)


def test_the_one_in_the_place_of_the_other_is_refused(tmp_path: Path, document: Path) -> None:
    assert refused(read_config, document, BinderDataError) == (
        "own.json: is a binder document, expected a base model's config.json",
        "`ual binder show own.json` shows it, `ual binder check own.json` checks it",
    )
    base = config(tmp_path / "base", model_type="llama")
    assert refused(read_document, base / "config.json", BinderDataError) == (
        "config.json: is a base model's config, expected a binder document",
        "`ual binder infer config.json -o FILE` writes the binder document of this model",
    )
    assert refused(read_document, base, StorageError) == (
        "cannot read base: is a folder, expected a binder document",
        WRITES,
    )


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert refused(read_either, place, StorageError) == ("cannot read place: no config.json in this folder", FOLDER)
    (place / "adapter_config.json").write_text("{}")
    assert refused(read_either, place, StorageError) == ("cannot read place: is a PEFT adapter", FOLDER)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(read_document, tmp_path / "none.json", StorageError) == (
        "cannot read none.json: no such file",
        WRITES,
    )
    message, _ = refused(read_either, tmp_path / "none.json", StorageError)
    assert message == "cannot read none.json: no such file or folder"


def test_a_document_is_checked_on_the_model_that_is_given(tmp_path: Path) -> None:
    path = INDEX.parent / "data" / "gptj.json"
    base = config(tmp_path / "base", model_type="gptj", n_embd=16, n_layer=1, n_head=2, rotary_dim=4, vocab_size=64)

    report = check_binder(path, base)

    assert (report.architecture, report.faults, report.undecided) == ("gptj", 0, 0)
    assert {item.subject.partition(", ")[0] for item in report.checks} == {"gptj"}
    assert {item.name for item in report.checks} == {"law", "modules", "coverage", "function"}


def test_without_a_model_every_type_is_checked_on_its_default_config(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ual_registry.tracing import check as tracing_check

    asked: list[str] = []

    def default_config(model_type: str) -> str:
        asked.append(model_type)
        return model_type

    monkeypatch.setattr(tracing_check, "default_config", default_config)
    monkeypatch.setattr(
        tracing_check,
        "check",
        lambda binder, base: iter(
            [
                tracing_check.BinderCheck(name="law", subject=base, faults=("a", "b")),
                tracing_check.BinderCheck(name="modules", subject=base, undecided="why"),
            ]
        ),
    )
    report = check_binder(document)

    assert asked == ["own", "other"]
    assert (report.faults, report.undecided, len(report.checks)) == (4, 2, 4)


def test_a_document_that_is_not_for_the_model_is_refused(tmp_path: Path, document: Path) -> None:
    base = config(tmp_path / "base", model_type="llama")
    with pytest.raises(UnknownArchitectureError) as told:
        check_binder(document, base)
    assert told.value.message == "binder 'own' is not for model_type 'llama' (known: own, other)"


def test_a_document_of_a_type_that_transformers_lacks_is_refused(document: Path) -> None:
    with pytest.raises(UninferableArchitectureError) as told:
        check_binder(document)
    assert told.value.message.endswith("does not know model_type 'own'")


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("transformers", "torch")])
def test_a_missing_package_is_named(document: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError) as told:
        check_binder(document)
    assert (told.value.message, told.value.hint) == (
        f"the check of a binder needs the extra '{extra}', which is not installed",
        f"pip install 'ual-registry[{extra}]'",
    )


def test_a_report_of_nothing_has_no_faults() -> None:
    report = BinderReport(architecture="own", checks=())
    assert (report.faults, report.undecided) == (0, 0)
