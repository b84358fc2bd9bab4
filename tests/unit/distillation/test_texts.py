"""Generated texts: the file that survives an interruption, and the rules by which texts are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from ual_registry.distillation.prompts import FewShot, Given, Prefixes
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Ended, Rules, Text, TextFile, keep_texts, texts_digest
from ual_registry.errors import FormatError, StorageError


def text(completion: str, *, batch: int = 0, prompt: str = "") -> Text:
    return Text(batch=batch, prompt=prompt, completion=completion, ended=Ended.END, tokens=3)


def test_texts_come_back_as_they_were_appended(tmp_path: Path) -> None:
    store = TextFile(tmp_path / "texts.jsonl", {"seed": 1})
    assert store.read() == []
    store.rewrite([])
    store.append([text("one"), text("zwei\nZeilen\u2028é")])
    store.append([text("three", batch=1)])
    assert store.read() == [text("one"), text("zwei\nZeilen\u2028é"), text("three", batch=1)]


def test_half_a_line_at_the_end_is_what_an_interruption_left_and_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    store = TextFile(path, {})
    store.rewrite([])
    store.append([text("one"), text("two")])
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted({*range(1, len(whole), 29), *(end + near for end in ends for near in (-2, -1, 0))}):
        path.write_bytes(whole[:cut])
        kept = store.read()
        assert kept == [text("one"), text("two")][: len(kept)]
        store.rewrite(kept)
        store.append([text("three")])
        assert store.read() == [*kept, text("three")]


def test_a_changed_line_and_other_settings_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    store = TextFile(path, {"seed": 1})
    store.rewrite([text("one")])
    with pytest.raises(FormatError) as caught:
        TextFile(path, {"seed": 2}).read()
    assert caught.value.message == f"{path}, line 1: the texts come from other settings"
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"two"'))
    with pytest.raises(FormatError) as caught:
        store.read()
    assert caught.value.message == f"{path}, line 2: the text does not have the digest that names it"
    assert caught.value.problem_code == "texts-line"


def test_texts_are_kept_once_and_the_reasons_are_counted() -> None:
    texts = [
        text("A cat."),
        text(" a  CAT. "),
        text("  "),
        text("ab" * 40),
        text("A dog."),
        text("A cat.", prompt="x "),
    ]
    kept = keep_texts(texts, Rules(min_characters=2))
    assert [own.whole for own in kept.texts] == ["A cat.", "A dog.", "x A cat."]
    assert kept.counts == {"generated": 6, "kept": 3, "short": 1, "cut": 0, "repetitive": 1, "duplicate": 1}
    assert keep_texts(texts, Rules(by_completion=True)).counts["duplicate"] == 2


def test_the_digest_of_texts_says_what_they_say_and_in_which_order() -> None:
    one, two = text("one"), text("two")
    assert texts_digest([one, two]) == texts_digest([text("one", batch=7), two])
    assert len({str(texts_digest(own)) for own in ([one, two], [two, one], [one], [one, one])}) == 4


def test_prompts_are_the_same_for_the_same_batch() -> None:
    assert Prefixes(("a", "b", "c")).batch(1, 2, 0) == ["c", "a"]
    assert [Given(("a", "b", "c")).batch(number, 2, 0) for number in range(3)] == [("a", "b"), ("c",), ()]
    shots = FewShot(SeedPrompts(inputs=("one", "two", "three")))
    assert shots.batch(4, 3, 1) == shots.batch(4, 3, 1)
    assert sorted(shots.batch(4, 1, 1)[0].split("\n")) == ["-", "- one", "- three", "- two"]
    many = shots.batch(4, 70, 1)
    assert [many[row] == many[0] for row in (31, 32, 63, 64)] == [True, False, False, False]
    assert [len(many), many[:3]] == [70, shots.batch(4, 3, 1)]
    assert FewShot(SeedPrompts(inputs=("one\nline", "two"))).separator == "\n---\n"


def test_the_file_system_is_told_of_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    store = TextFile(tmp_path / "folder", {})
    for action in (store.read, lambda: store.append([text("one")]), lambda: store.rewrite([])):
        with pytest.raises(StorageError) as caught:
            action()
        assert caught.value.context == {"path": str(tmp_path / "folder")}


def test_a_line_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    store = TextFile(path, {})
    store.rewrite([])
    path.write_bytes(path.read_bytes() + b'{"batch":0}\n')
    with pytest.raises(FormatError) as caught:
        store.read()
    assert (caught.value.message, caught.value.problem_code) == (f"{path}, line 2: is no generated text", "texts-line")
