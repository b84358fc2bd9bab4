"""The domains of the examples: whole documents on one side each, of the size that was asked for; made-up packages."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from examples import domains
from examples.domains import DOMAINS, load_domain, write_domains
from examples.materials import Wheel
from examples.three_domains import table
from ual_registry.evaluation.items import read_documents
from ual_registry.training.examples import read_examples
from ual_registry.training.forms import Example

FUNCTION = 'def {name}(x):\n    """Return twice ``x``.\n\n    >>> {name}(1)\n    """\n    return 2 * x\n\n\nOTHER = 1\n'


def fill(archive: zipfile.ZipFile, package: str) -> None:
    """Write a package of the shape of the real one."""
    if package == "chatterbot-corpus":
        pairs = [[f"question {number}?", f"answer {again}"] for number in range(30) for again in range(5)]
        text = json.dumps({"categories": ["x"], "conversations": pairs})  # JSON is YAML
        archive.writestr("chatterbot_corpus/data/english/x.yml", text)
        archive.writestr("chatterbot_corpus/data/german/x.yml", text.replace("question", "Frage"))
    elif package == "botocore":
        for number in range(30):
            told = f"<p>Returns what service {number}  does &amp; says.</p>" * 9
            service = {"operations": {name: {"documentation": told + name} for name in "ABCDEF"}}
            data = gzip.compress(json.dumps(service).encode())
            archive.writestr(f"botocore/data/s{number}/2020-01-01/service-2.json.gz", gzip.compress(b"{}"))
            archive.writestr(f"botocore/data/s{number}/2021-01-01/service-2.json.gz", data)
    else:
        for number in range(30):
            archive.writestr(f"sympy/core/m{number}.py", "import x\n\n\n" + FUNCTION.format(name=f"f{number}"))
            archive.writestr(f"sympy/core/tests/t{number}.py", FUNCTION.format(name=f"t{number}"))


@pytest.fixture(autouse=True)
def _packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(wheel: Wheel) -> Path:
        path = tmp_path / wheel.filename
        with zipfile.ZipFile(path, "w") as archive:
            fill(archive, wheel.package)
        return path

    monkeypatch.setattr(domains, "wheel_file", made)
    monkeypatch.setattr(domains, "_TRAIN_CHARACTERS", 500)
    monkeypatch.setattr(domains, "_TEST_CHARACTERS", 300)


@pytest.mark.parametrize("name", DOMAINS)
def test_no_document_is_on_both_sides_and_each_side_is_as_large_as_asked_for(name: str) -> None:
    found = load_domain(name)
    sides = [{own.document for own in side} for side in (found.train, found.test)]
    assert sides[0] & sides[1] == set()
    for side, size in ((found.train, 500), (found.test, 300)):
        without_last = [own for own in side if own.document != side[-1].document]
        assert sum(len(own.text or "") for own in without_last) < size <= sum(len(own.text or "") for own in side)
    assert found == load_domain(name)


def test_texts_are_cut_out_of_what_the_packages_hold() -> None:
    assert load_domain("mathematics").train[0].text in {FUNCTION.format(name=f"f{n}")[:-13] for n in range(30)}
    conversation = load_domain("conversation")
    assert all((own.text or "").startswith("question ") for own in (*conversation.train, *conversation.test))
    documents = [own.document for own in conversation.test]
    assert {documents.count(own) for own in documents} == {3}
    (cloud, *_) = load_domain("cloud").test
    assert cloud.text is not None
    assert cloud.text.startswith("Returns what service ")
    assert "does & says. Returns" in cloud.text
    assert len(cloud.text) <= 600


def test_what_is_written_is_what_training_and_evaluation_read(tmp_path: Path) -> None:
    write_domains(tmp_path)
    for name in DOMAINS:
        found = load_domain(name)
        assert tuple(read_examples(tmp_path / name / "train.jsonl")) == found.train
        items = read_documents(tmp_path / name / "test.jsonl").items
        assert [Example(text=item.text) for item in items] == [Example(text=own.text) for own in found.test]


def test_the_table_marks_the_best_of_every_domain() -> None:
    rows = ["base", *DOMAINS]
    scores = {(row, name): 1.0 + (row != name) + rows.index(row) / 8 for row in rows for name in DOMAINS}
    assert table(scores) == (
        "| adapter | conversation | cloud | mathematics |\n"
        "|---|---|---|---|\n"
        "| base | 2.000 | 2.000 | 2.000 |\n"
        "| conversation | **1.125** | 2.125 | 2.125 |\n"
        "| cloud | 2.250 | **1.250** | 2.250 |\n"
        "| mathematics | 2.375 | 2.375 | **1.375** |"
    )
