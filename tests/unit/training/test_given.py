"""How data is given: under other names, in part, with a file that is held out, and in forms that others read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.letters import letters
from tests.unit.training.test_command import command
from ual_registry.errors import FormatError, TrainingError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.examples import read_examples
from ual_registry.training.forms import Example
from ual_registry.training.prepare import prepare
from ual_registry.workflows.train_material import examples_of, held_out_of
from ual_registry.workflows.train_order import TrainOrder

FIELDS = {"prompt": "question", "completion": "answer"}


def lines(path: Path, *values: dict[str, Any]) -> Path:
    """Write JSONL."""
    path.write_text("".join(f"{json.dumps(own)}\n" for own in values))
    return path


def test_fields_of_other_names_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": "1+1=", "answer": "2", "prompt": "of no account"})
    expected = Example(prompt="1+1=", completion="2")
    assert list(read_examples(path, fields=FIELDS)) == [expected]
    given = [{"question": "1+1=", "answer": "2"}]
    assert examples_of(TrainOrder(base="b", data=given, fields=FIELDS, output="a.air")) == (expected,)


def test_a_field_that_is_not_there_or_not_known_is_told(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": "1+1=", "reply": "2"})
    with pytest.raises(FormatError) as caught:
        list(read_examples(path, fields=FIELDS))
    assert str(caught.value) == f"{path}, line 1: answer: missing field"
    with pytest.raises(TrainingError) as told:
        read_examples(path, fields={"question": "prompt"})
    assert str(told.value) == (
        "fields: expected completion, document, label, messages, prompt, text before the =, got 'question'"
    )


def test_no_more_is_read_than_asked_for() -> None:
    read: list[int] = []

    def endless() -> Iterator[dict[str, str]]:
        while True:
            read.append(len(read))
            yield {"text": str(len(read))}

    order = TrainOrder(base="b", data=endless(), limit=3, output="a.air")
    assert [own.text for own in examples_of(order)] == ["1", "2", "3"]
    assert len(read) == 3


def test_the_real_library_reads_a_data_set_of_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    lines(tmp_path / "a.jsonl", *({"question": f"{number}", "answer": "x"} for number in range(5)))
    load = datasets.load_dataset

    def local(name: str, subset: str | None, **settings: Any) -> Any:
        assert (name, subset, settings.pop("revision")) == ("owner/name", None, None)
        return load("json", data_files=str(tmp_path / "a.jsonl"), **settings)

    monkeypatch.setattr(datasets, "load_dataset", local)
    order = TrainOrder(base="b", data="owner/name", fields=FIELDS, limit=2, output="a.air")
    assert examples_of(order) == (Example(prompt="0", completion="x"), Example(prompt="1", completion="x"))


def test_examples_of_a_file_are_held_out_and_not_trained_on(tmp_path: Path) -> None:
    own = [Example(text=f"text {number}") for number in range(6)]
    apart = lines(tmp_path / "apart.jsonl", {"text": "text 5"}, {"text": "other"}, {"text": "text  5"})
    held_out = held_out_of(TrainOrder(base="b", data=own, held_out=apart, limit=1, output="a.air"))
    found = prepare(own, letters(), TrainingConfig(held_out_share=0.5), held_out=held_out)
    assert (len(found.train), len(found.held_out)) == (5, 2)
    report = found.report
    assert (report.examples, report.duplicates, report.train.examples, report.held_out.examples) == (9, 2, 5, 2)
    assert {row.document for row in found.train} & {row.document for row in found.held_out} == set()


def test_labels_of_both_sides_count() -> None:
    own = [Example(text="a", label="x"), Example(text="b", label="y")]
    config = TrainingConfig(head="classification")
    found = prepare(own, letters(), config, held_out=[Example(text="c", label="z")])
    assert (found.labels, found.report.labels) == (("x", "y", "z"), {"x": 1, "y": 1, "z": 1})


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ([Example(text=" ")], "nothing of what is to be held out can be trained on"),
        (
            [Example(prompt="a", completion="b", place="apart, line 1")],
            "apart, line 1: expected text for a causal head, got completion",
        ),
    ],
)
def test_what_cannot_be_held_out_is_told(held_out: list[Example], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        prepare([Example(text="abc")], letters(), TrainingConfig(), held_out=held_out)
    assert str(caught.value) == message


def test_equal_lines_are_told_where_nothing_else_is_left() -> None:
    with pytest.raises(TrainingError) as caught:
        prepare([Example(text="a cat")] * 30, letters(), TrainingConfig())
    assert str(caught.value) == (
        "1 document to train on (29 more examples say the same), expected 2 or more, since some are held out"
    )


@pytest.mark.parametrize(
    ("example", "head", "hint"),
    [
        (
            Example(text="a", label="x"),
            "causal",
            "train another head on them (--head classification), or read their texts alone (--form text)",
        ),
        (Example(text="a"), "seq2seq", "train another head on them (--head causal or masked)"),
    ],
)
def test_a_head_that_is_trained_on_other_forms_names_those_that_are(example: Example, head: str, hint: str) -> None:
    with pytest.raises(TrainingError) as caught:
        prepare([example], letters(), TrainingConfig(head=head))
    assert (caught.value.problem_code, caught.value.hint) == ("wrong-form", hint)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (
            {"instruction": "a", "input": "", "output": "b"},
            "pass --fields prompt=instruction,completion=output; put an input, if there is one, into the instruction",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            "rename conversations to messages, from to role (human to user, gpt to assistant), and value to content",
        ),
        ({"chosen": "a", "rejected": "b"}, "this is data of preferences, which is not trained on here"),
        (
            {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
            "put the turns of prompt and completion into one list, messages",
        ),
        ({"prompt": 3, "completion": "b"}, "docs/train.md shows the forms of training data"),
        ({"words": "a"}, "docs/train.md shows the forms of training data"),
    ],
)
def test_data_of_other_programs_is_told_how_to_become_ours(values: dict[str, Any], hint: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        list(read_examples(lines(tmp_path / "a.jsonl", values)))
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a.json", "write one object a line, and call it .jsonl: jq -c '.[]' IN.json > OUT.jsonl"),
        ("a.gz", "unpack it first"),
        ("a.xyz", "docs/train.md shows the forms of training data"),
    ],
)
def test_files_of_other_endings_are_told_how_to_become_ours(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("[]")
    with pytest.raises(FormatError) as caught:
        read_examples(tmp_path / name)
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["prompt", "prompt=", "=question"])
def test_fields_are_pairs(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(f"train --base base --data data.jsonl -o a.air --fields {text}", capsys)
    told = f"Error: Invalid value for '--fields': '{text}': expected NAME=FIELD, such as "
    assert (code, err.splitlines()[-1]) == (2, f"{told}prompt=question,completion=answer")
