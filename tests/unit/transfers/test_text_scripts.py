"""Calibration text in a script that a base model does not know."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.unit.transfers.bases import TEXTS, gpt2, llama
from ual_registry.transfers.text_scripts import script_warnings

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

RUSSIAN = ["Перевод денег на другой счёт займёт несколько дней, подождите пожалуйста.", "Где моя карта?"] * 4
CHINESE = ["转账到另一个账户需要几天时间,请耐心等待。"] * 8


def reader_of(texts: list[str], name: str) -> Any:
    """Return what looks like a base model whose tokenizer was trained on some texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
    return SimpleNamespace(base=SimpleNamespace(id=name), text_tokenizer=tokenizer)


def said(name: str, script: str) -> str:
    return (
        f"most of the calibration text is in {script} letters, which the tokenizer of {name} spells one by one: what a "
        "model was not trained to read says little of how it reads; give text in the adapter's language"
    )


def test_a_script_that_neither_model_knows_is_told_of_both(tmp_path: Path) -> None:
    bases = llama(tmp_path), gpt2(tmp_path)
    assert list(script_warnings(bases, TEXTS)) == []
    assert list(script_warnings(bases, RUSSIAN)) == [said("llama", "Cyrillic"), said("gpt2", "Cyrillic")]
    assert list(script_warnings(bases, CHINESE)) == [said("llama", "CJK"), said("gpt2", "CJK")]


def test_a_script_that_was_trained_on_is_known(tmp_path: Path) -> None:
    bases = llama(tmp_path), reader_of(RUSSIAN, "reader")
    assert list(script_warnings(bases, RUSSIAN)) == [said("llama", "Cyrillic")]
    assert list(script_warnings([reader_of(CHINESE, "reader")], CHINESE)) == []


def test_some_words_of_another_script_are_no_matter(tmp_path: Path) -> None:
    assert list(script_warnings([llama(tmp_path)], [*TEXTS, RUSSIAN[1]])) == []


@pytest.mark.parametrize("texts", [["12 + 34 = 46"], ["  "]])
def test_text_without_letters_has_no_script(tmp_path: Path, texts: list[str]) -> None:
    assert list(script_warnings([llama(tmp_path)], texts)) == []
