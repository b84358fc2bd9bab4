"""The items of an evaluation: what a line may say, and which line is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ual_registry.digest import Digest
from ual_registry.errors import FormatError
from ual_registry.evaluation.items import (
    DataFile,
    Document,
    ExactItem,
    LabelItem,
    read_documents,
    read_exact,
    read_labels,
)


def put(folder: Path, *lines: Any) -> Path:
    path = folder / "data.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_labels_of_their_own_and_those_of_the_file(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        {"prompt": "a", "label": "yes"},
        "",
        {"prompt": "b {labels}", "label": "up", "labels": ["up", "down"]},
        {"prompt": "c", "label": "no"},
    )
    every = ("no", "up", "yes")
    assert read_labels(path) == DataFile(
        path=str(path),
        digest=str(Digest.of_bytes(path.read_bytes())),
        items=(
            LabelItem(line=1, prompt="a", labels=every, gold="yes"),
            LabelItem(line=3, prompt="b {labels}", labels=("up", "down"), gold="up"),
            LabelItem(line=4, prompt="c", labels=every, gold="no"),
        ),
    )


def test_documents(tmp_path: Path) -> None:
    path = put(tmp_path, {"text": "één"}, {"text": "two"})
    assert read_documents(path).items == (Document(line=1, text="één"), Document(line=2, text="two"))


def test_one_reference_and_several(tmp_path: Path) -> None:
    path = put(tmp_path, {"prompt": "a", "reference": "x"}, {"prompt": "b", "references": ["y", "z"]})
    assert read_exact(path).items == (
        ExactItem(line=1, prompt="a", references=("x",)),
        ExactItem(line=2, prompt="b", references=("y", "z")),
    )


READERS: dict[str, Callable[[Path], DataFile]] = {"labels": read_labels, "text": read_documents, "exact": read_exact}


@pytest.mark.parametrize(
    ("reader", "line", "message"),
    [
        ("text", "{", "is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("text", "[" * 100_000, "is no JSON (maximum recursion depth exceeded while decoding a JSON array from a uni"),
        ("text", ["a"], "is a list, expected an object"),
        ("text", {}, "text: expected a text that is not blank, got nothing"),
        ("text", {"text": 1}, "text: expected a text that is not blank, got 1"),
        ("text", {"text": "  "}, "text: expected a text that is not blank, got '  '"),
        ("text", {"text": "\ud800"}, "text: expected a text that is not blank, got '\\ud800'"),
        ("text", {"text": "a", "id": 1}, "unknown property 'id' (expected text)"),
        ("labels", {"prompt": "a"}, "label: expected a text that is not blank, got nothing"),
        ("labels", {"prompt": "a", "label": "x", "labels": "x"}, "labels: expected a list of texts, got 'x'"),
        (
            "labels",
            {"prompt": "a", "label": "x", "labels": ["x", 1]},
            "labels: expected a text that is not blank, got 1",
        ),
        ("labels", {"prompt": "a", "label": "x", "labels": ["x", "x"]}, "labels: one occurs twice"),
        ("labels", {"prompt": "a", "label": "x", "labels": ["y", "z"]}, "label 'x' is not one of its labels (y, z)"),
        ("exact", {"prompt": "a"}, "expected either reference or references"),
        ("exact", {"prompt": "a", "reference": "x", "references": ["x"]}, "expected either reference or references"),
        ("exact", {"prompt": "a", "references": []}, "references: is empty"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, reader: str, line: Any, message: str) -> None:
    good = {"text": {"text": "a"}, "labels": {"prompt": "p", "label": "l"}, "exact": {"prompt": "p", "reference": "r"}}
    path = put(tmp_path, good[reader], line)
    with pytest.raises(FormatError) as caught:
        READERS[reader](path)
    assert caught.value.message.startswith(f"{path}, line 2: {message}")
    assert (caught.value.problem_code, caught.value.context["line"]) == ("evaluation-data", 2)
    assert caught.value.hint == "docs/evaluate.md shows the forms of the items"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(FormatError) as caught:
        read_documents(path)
    assert caught.value.message == f"{path}, line 2: is no text in UTF-8"
    path.write_bytes('{"text": "a"}'.encode("utf-16"))
    with pytest.raises(FormatError) as caught:
        read_documents(path)
    assert caught.value.message == f"{path}, line 1: is no text in UTF-8"


def test_a_mark_of_the_order_of_bytes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n')
    assert [item.text for item in read_documents(path).items] == ["a"]


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_file_is_refused(tmp_path: Path, reader: str) -> None:
    path = put(tmp_path, "", "  ")
    with pytest.raises(FormatError) as caught:
        READERS[reader](path)
    assert caught.value.message == f"{path}: holds no items"


def test_a_file_of_one_label_leaves_nothing_to_choose(tmp_path: Path) -> None:
    path = put(tmp_path, {"prompt": "a", "label": "x"}, {"prompt": "b", "label": "x"})
    with pytest.raises(FormatError) as caught:
        read_labels(path)
    assert caught.value.message == f"{path}, line 1: has one label, expected at least two to choose from"
