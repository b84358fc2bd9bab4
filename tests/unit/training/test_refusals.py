"""Input that nothing can be made of is refused by name, wherever it comes from, and never ends in a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ual_registry.air.model import Statement
from ual_registry.errors import FormatError, HubNotFoundError, HubUnavailableError, TrainingError, UALError
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.config import TrainingConfig
from ual_registry.training.config_file import make_config
from ual_registry.training.examples import read_examples
from ual_registry.training.factors import lora_config, targets_of
from ual_registry.training.fields import Record, decode_record
from ual_registry.training.forms import Example, Form
from ual_registry.training.target_choice import Target, TargetChoice
from ual_registry.workflows.train_material import examples_of
from ual_registry.workflows.train_order import TrainOrder


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"seed": 10**100}, f"setting seed: expected a whole number, got 1{'0' * 79}"),
        ({"seed": 2**53}, "setting seed: expected a whole number, got 9007199254740992"),
        ({"learning_rate": float("inf")}, "setting learning_rate: expected a number, got inf"),
        ({"rank_pattern": {1: 4}}, "setting rank_pattern: expected names of roles or modules, got 1"),
    ],
)
def test_numbers_and_names_that_json_cannot_carry_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        make_config(document)
    assert caught.value.message == message


def test_a_list_in_a_list_of_roles_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        make_config({"roles": [["attention_query"]]})
    assert caught.value.message == (
        "setting roles: expected roles such as attention_query and mlp_up, got ['attention_query']"
    )


@pytest.mark.parametrize(
    ("data", "form", "message"),
    [
        ({"text": "a"}, "poem", "form: expected text, completion, chat, label, got 'poem'"),
        ("some text", None, "examples, number 0: expected a mapping, got a str"),
        (5, None, "examples, number 0: expected a mapping, got a int"),
    ],
)
def test_examples_that_are_given_by_hand_are_checked(data: Any, form: str | None, message: str) -> None:
    with pytest.raises(UALError) as caught:
        examples_of(TrainOrder(base="base", data=[data], form=form, output="made.air"))
    assert caught.value.message == message


def test_an_empty_cell_names_no_document() -> None:
    record = Record(source="data.csv", place="line 2", values={"text": "a", "document": ""})
    assert decode_record(record, Form.TEXT) == Example(text="a", document=None)


class Rows(list[dict[str, Any]]):
    """Rows of a data set of the Hub, with the names of its labels."""

    features = {"label": SimpleNamespace(names=["no", "yes"])}  # noqa: RUF012  # as the library has it


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_a_data_set_has_no_name_for_is_refused(monkeypatch: pytest.MonkeyPatch, label: int) -> None:
    hub(monkeypatch, Rows([{"text": "a", "label": 1}, {"text": "b", "label": label}]))
    with pytest.raises(FormatError) as caught:
        list(read_examples("owner/name:test"))
    assert caught.value.message == f"owner/name, row 2: label: expected a number from 0 to 1, got {label}"


class OddError(Exception):
    """Stands for what a library raises beside its own errors."""


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found name.py"), HubNotFoundError),
        (OddError("connect failed"), HubUnavailableError),
    ],
)
def test_whatever_the_library_raises_is_said(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[UALError]
) -> None:
    hub(monkeypatch, raised)
    with pytest.raises(kind) as caught:
        list(read_examples("owner/name"))
    assert caught.value.message == f"data set owner/name: {raised} (nor is there a file or folder of this name)"


@pytest.mark.parametrize(("name", "value"), [("dropout", 0.1), ("dora", True)])
def test_experts_take_neither_dropout_nor_magnitudes(llama: LoadedBase, name: str, value: object) -> None:
    expert = Target(path="mlp.experts.up", is_included=True, reason="mlp_up", parameter="up")
    choice = TargetChoice(targets=(*targets_of(llama, TrainingConfig()).targets, expert))
    with pytest.raises(TrainingError) as caught:
        lora_config(llama, choice, make_config({name: value}))
    assert caught.value.message == f"setting {name}: cannot be used with the experts that mlp.experts.up holds"


def test_a_model_that_cannot_compute_again_is_named(llama: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(llama.model), "supports_gradient_checkpointing", False)
    config = TrainingConfig(gradient_checkpointing=True)
    with pytest.raises(TrainingError) as caught:
        lora_config(llama, targets_of(llama, config), config)
    assert caught.value.message == "setting gradient_checkpointing: LlamaForCausalLM does not support it"


def test_a_title_is_no_formula(tmp_path: Path) -> None:
    plots = pytest.importorskip("ual_registry.training.plots")
    statement = Statement(type="training", builder={}, byproducts={"curve": [{"step": 1, "loss": 2.0}]})
    plots.draw_curves(statement, tmp_path / "curve.svg", title=r"costs $\frac{1$")
    assert r"costs $\frac{1$" in (tmp_path / "curve.svg").read_text(encoding="utf-8")
