"""Examples are read as they stream, all of one form, and every fault says where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ual_registry.errors import (
    FormatError,
    HubNotFoundError,
    HubUnavailableError,
    MissingExtraError,
    StorageError,
    TrainingError,
    UALError,
)
from ual_registry.training import sources
from ual_registry.training.examples import read_examples, write_examples
from ual_registry.training.forms import Example, Form, Message

HINT = "docs/train.md shows the forms of training data"


def file_of(folder: Path, data: str | bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def fault_of(path: Path, **settings: Any) -> UALError:
    with pytest.raises(UALError) as caught:
        list(read_examples(path, **settings))
    return caught.value


@pytest.mark.parametrize(
    ("line", "example"),
    [
        ('{"text": "a b", "further": [1]}', Example(text="a b")),
        ('{"prompt": "", "completion": "c", "text": "left alone"}', Example(prompt="", completion="c")),
        ('{"text": "a", "label": "x"}', Example(text="a", label="x")),
        ('{"text": "a", "label": 3}', Example(text="a", label="3")),
        ('{"text": "a", "document": "one"}', Example(text="a", document="one")),
        ('{"text": "a", "document": null}', Example(text="a")),
        (
            '{"messages": [{"role": "user", "content": "a", "name": null}, {"role": "assistant", "content": "b"}]}',
            Example(messages=(Message(role="user", content="a"), Message(role="assistant", content="b"))),
        ),
    ],
)
def test_a_line_of_jsonl_is_an_example_of_the_first_form_whose_fields_it_has(
    tmp_path: Path, line: str, example: Example
) -> None:
    path = file_of(tmp_path, f"\n{line}\n\n")
    (found,) = read_examples(path)
    assert found == example
    assert found.place == f"{path}, line 2"


def test_a_form_that_is_asked_for_counts_before_what_the_fields_say(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"text": "a", "label": "x"}\n')
    assert list(read_examples(path, form="text")) == [Example(text="a")]


@pytest.mark.parametrize(
    ("data", "problem", "context"),
    [
        ("", "holds no examples", {}),
        ("\n \n", "holds no examples", {}),
        (
            '{"text": "a"}\n{"text": \n',
            "not JSON in UTF-8: Expecting value: line 2 column 1 (char 10)",
            {"place": "line 2"},
        ),
        ('{"text": "a", "text": "b"}', "name 'text' stands twice in one object", {"place": "line 1"}),
        ("[1]", "expected a JSON object, got list", {"place": "line 1"}),
        (b'{"text": "a"}\n{"text": "\xe9"}', "expected UTF-8, got byte 0xe9 at offset 10", {"place": "line 2"}),
        ('{"text": 3}', "expected a text, got 3", {"place": "line 1", "field": "text"}),
        ('{"text": null}', "expected a text, got nothing", {"place": "line 1", "field": "text"}),
        ('{"prompt": "a"}', "missing field; 'prompt' is there", {"place": "line 1", "field": "completion"}),
        (
            '{"b": 1, "a": 2}',
            "expected messages, prompt and completion, text and label, or text; got a, b",
            {"place": "line 1"},
        ),
        ("{}", "expected messages, prompt and completion, text and label, or text; got no fields", {"place": "line 1"}),
        (
            '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}',
            "missing field; expected prompt and completion",
            {"place": "line 2", "field": "completion"},
        ),
        (
            '{"text": "a"}\n{"prompt": "a", "completion": "b"}',
            "is of form 'completion' (prompt and completion), expected 'text' like the others",
            {"place": "line 2"},
        ),
        ('{"text": "a", "label": true}', "expected a text, got True", {"place": "line 1", "field": "label"}),
        ('{"text": "a", "label": " "}', "expected a label, got a blank text", {"place": "line 1", "field": "label"}),
        ('{"messages": []}', "expected a list of messages, got []", {"place": "line 1", "field": "messages"}),
        (
            '{"messages": ["hi"]}',
            "expected an object with role and content, got 'hi'",
            {"place": "line 1", "field": "messages[0]"},
        ),
        (
            '{"messages": [{"role": "user"}]}',
            "missing field",
            {"place": "line 1", "field": "messages[0].content"},
        ),
        (
            '{"messages": [{"role": "robot", "content": "a"}]}',
            "unknown role 'robot' (known: system, user, assistant, tool)",
            {"place": "line 1", "field": "messages[0].role"},
        ),
        (
            '{"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}',
            "unknown field 'tool_calls'; a message has role and content",
            {"place": "line 1", "field": "messages[0]"},
        ),
        (
            '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            "expected a text, got [{'type': 'text'}]",
            {"place": "line 1", "field": "messages[0].content"},
        ),
    ],
)
def test_a_fault_says_file_line_field_expected_and_got(
    tmp_path: Path, data: str | bytes, problem: str, context: dict[str, str]
) -> None:
    path = file_of(tmp_path, data)
    error = fault_of(path)
    place = f", {context['place']}" if "place" in context else ""
    field = f": {context['field']}" if "field" in context else ""
    assert isinstance(error, FormatError)
    assert error.message == f"{path}{place}{field}: {problem}"
    assert error.context == {"path": str(path), **context}
    assert error.problem_code == "training-data"
    assert error.hint


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    error = fault_of(file_of(tmp_path, '{"text": "\\ud800"}'))
    assert "line 1: not JSON in UTF-8" in error.message


def test_examples_before_a_fault_are_handed_out(tmp_path: Path) -> None:
    found = read_examples(file_of(tmp_path, '{"text": "a"}\n{"text": "b"}\n{'))
    assert [next(found).text, next(found).text] == ["a", "b"]
    with pytest.raises(FormatError):
        next(found)


def test_a_line_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 20)
    path = file_of(tmp_path, '{"text": "a"}\n{"text": "' + "b" * 20 + '"}')
    assert fault_of(path).message == f"{path}, line 2: over the limit of 20 bytes"


def test_csv_has_names_in_its_first_row_and_lines_in_its_fields(tmp_path: Path) -> None:
    path = file_of(tmp_path, '\ufefftext , label\n"a\nb",x\n\n"c, d",y\n', "data.csv")
    found = list(read_examples(path))
    assert found == [Example(text="a\nb", label="x"), Example(text="c, d", label="y")]
    assert [own.place for own in found] == [f"{path}, line 3", f"{path}, line 5"]


def test_tsv_is_csv_with_tabs(tmp_path: Path) -> None:
    path = file_of(tmp_path, "prompt\tcompletion\na, b\tc\n", "data.tsv")
    assert list(read_examples(path)) == [Example(prompt="a, b", completion="c")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("text,label\na\n", "line 2: expected 2 columns, got 1"),
        ("text,text\na,b\n", "line 1: column 'text' stands there twice"),
        ('text,label\n"a"b,c\n', "line 2: is no CSV: ',' expected after '\"'"),
        ("other\na\n", "line 2: expected messages, prompt and completion, text and label, or text; got other"),
        ("text\n" + "a" * 140_000 + "\n", "line 2: is no CSV: field larger than field limit (131072)"),
    ],
)
def test_a_fault_in_csv_says_its_line(tmp_path: Path, data: str, problem: str) -> None:
    path = file_of(tmp_path, data, "data.csv")
    assert fault_of(path).message == f"{path}, {problem}"


def test_csv_without_rows_holds_no_examples(tmp_path: Path) -> None:
    path = file_of(tmp_path, "text\n", "data.csv")
    assert fault_of(path).message == f"{path}: holds no examples"


def test_documents_of_a_text_are_separated_by_blank_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, "\n\na\nb\n \n\nc\r\n", "data.txt")
    found = list(read_examples(path))
    assert found == [Example(text="a\nb"), Example(text="c")]
    assert [own.place for own in found] == [f"{path}, line 3", f"{path}, line 7"]


def test_each_file_of_a_folder_is_a_document_and_links_are_not_followed(tmp_path: Path) -> None:
    secret = file_of(tmp_path, "secret", "secret")
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    file_of(folder, "one\n\ntwo", "a")
    file_of(folder / "b", "three", "c.txt")
    file_of(folder, "hidden", ".hidden")
    (folder / "link").symlink_to(secret)
    assert list(read_examples(folder)) == [
        Example(text="one\n\ntwo", document="a"),
        Example(text="three", document="b/c.txt"),
    ]


def test_a_folder_holds_texts_alone(tmp_path: Path) -> None:
    file_of(tmp_path, "{}", "a.jsonl")
    assert fault_of(tmp_path).message == f"{tmp_path}, a.jsonl: a folder holds plain texts"


def test_an_unknown_ending_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a", "data.parquet")
    assert fault_of(path).message == (
        f"{path}: expected a file that ends in .jsonl, .ndjson, .csv, .tsv, .txt, .text, .md; got .parquet"
    )


@pytest.mark.parametrize("name", ["missing.jsonl", "no/such/file.csv", "./a/b", "a b/c"])
def test_a_file_that_is_not_there_is_said_at_once(name: str) -> None:
    with pytest.raises(StorageError) as caught:
        read_examples(name)
    assert caught.value.message == f"cannot read {name}: no such file or folder"


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        read_examples(file_of(tmp_path, "{}"), form="poem")
    assert caught.value.message == "form: expected text, completion, chat, label, got 'poem'"


def test_what_looks_like_a_path_or_an_address_is_a_text(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"text": "/etc/passwd"}\n{"text": "https://example.org/x"}\n')
    assert [own.text for own in read_examples(path)] == ["/etc/passwd", "https://example.org/x"]


def test_examples_are_written_as_they_are_read(tmp_path: Path) -> None:
    examples = [Example(text="a\u2028\nb", document="d"), Example(text="")]
    write_examples(tmp_path / "out.jsonl", examples)
    assert list(read_examples(tmp_path / "out.jsonl")) == examples


def test_digests_follow_from_what_is_said_and_not_from_white_space() -> None:
    one, other = Example(text="a  b\n"), Example(text=" a b", document="d")
    assert one.digest == other.digest
    assert one.document_digest == one.digest
    assert other.document_digest != other.digest
    assert Example(text="ab").digest != one.digest
    assert Example(prompt="a", completion="b").digest != Example(prompt="b", completion="a").digest
    assert Example(text="a", label="b").form is Form.LABEL


class Rows(list[dict[str, Any]]):
    features: ClassVar = {"label": SimpleNamespace(names=["no", "yes"])}


def datasets_with(answer: Any, calls: list[Any]) -> Any:
    def load_dataset(*args: Any, **settings: Any) -> Any:
        calls.append((args, settings))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(load_dataset=load_dataset)


def test_a_data_set_of_the_hub_is_streamed_with_the_names_of_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    rows = Rows([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    monkeypatch.setitem(sys.modules, "datasets", datasets_with(rows, calls))
    found = list(read_examples("owner/name/small@main:test"))
    assert found == [Example(text="a", label="yes"), Example(text="b", label="no")]
    assert found[1].place == "owner/name, row 2"
    settings = {"split": "test", "revision": "main", "streaming": True}
    assert calls == [(("owner/name", "small"), settings)]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (FileNotFoundError("Dataset 'owner/name' doesn't exist\non the Hub"), HubNotFoundError),
        (ValueError("Unknown split"), HubNotFoundError),
        (ConnectionError("no route"), HubUnavailableError),
    ],
)
def test_what_the_hub_refuses_is_said(monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[UALError]) -> None:
    monkeypatch.setitem(sys.modules, "datasets", datasets_with(raised, []))
    with pytest.raises(kind) as caught:
        list(read_examples("owner/name"))
    first = str(raised).splitlines()[0]
    assert caught.value.message == f"data set owner/name: {first} (nor is there a file or folder of this name)"


def test_a_data_set_of_the_hub_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError) as caught:
        list(read_examples("owner/name"))
    assert caught.value.message == (
        "the data set owner/name of the Hub (no file or folder of this name is here) needs the extra 'data', which is "
        "not installed"
    )


@pytest.mark.parametrize(
    "module", ["examples", "forms", "fields", "sources", "targets", "split", "order", "data_report"]
)
def test_the_light_modules_load_no_framework(module: str) -> None:
    code = (
        f"import sys, ual_registry.training.{module}\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'peft', 'tokenizers', 'datasets'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
