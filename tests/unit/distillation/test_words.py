"""Words that an adapter is sure of, against each word asked alone, and inputs that go on from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.unit.distillation.material import make_tokenizer
from ual_registry.distillation import asking, words
from ual_registry.distillation.answers import write_inputs
from ual_registry.distillation.corpus import make_corpus
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.manner import Manner
from ual_registry.distillation.prompts import Given
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.words import SureWord, chosen_words, sure_words, vocabulary_words
from ual_registry.errors import FormatError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

SEEDS = SeedPrompts(inputs=("the cat", "a friend", "a dog"), template="say {input}:")


def test_words_are_tokens_that_begin_one_and_have_letters_alone() -> None:
    assert vocabulary_words(make_tokenizer(280, has_start=True)) == ["bread", "fish", "lik", "likes", "sees", "the"]


def test_words_are_found_where_a_decoder_strips_the_space_that_a_text_begins_with() -> None:
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(["the", "bread", "fish", "a"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    assert tokenizer.decode([tokenizer.get_vocab()["▁bread"]]) == "bread"
    assert vocabulary_words(tokenizer) == ["bread", "fish", "the"]


def asked_alone(source: LoadedBase, adapter: Named, word: str) -> SureWord:
    ids = [source.tokenizer.bos_token_id, *source.tokenizer(SEEDS.prompt(word), add_special_tokens=False)["input_ids"]]
    with attach(source.model, adapter.adapter), torch.no_grad():
        chances = source.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return SureWord(word, int(chances.argmax()), float(chances.max()))


@pytest.mark.parametrize("sure", [0.0, 0.3])
def test_what_is_sure_is_what_each_word_says_alone(
    sure: float, source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "_SURE", sure)
    monkeypatch.setattr(words, "_ROWS", 4)
    found = sure_words(source, adapter, SEEDS, seed=0, file=tmp_path / "words.json")
    every = [asked_alone(source, adapter, word) for word in vocabulary_words(source.tokenizer)]
    expected = {own.text: own for own in every if own.chance >= sure}
    assert {own.text: own.token for own in found} == {text: own.token for text, own in expected.items()}
    assert [own.chance for own in found] == pytest.approx([expected[own.text].chance for own in found], abs=1e-5)


def test_what_was_asked_is_kept_and_belongs_to_its_settings(
    source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "_SURE", 0.0)
    file = tmp_path / "words.json"
    found = sure_words(source, adapter, SEEDS, seed=0, file=file)
    monkeypatch.setattr(words, "next_chances", None)  # nothing is asked again
    assert sure_words(source, adapter, SEEDS, seed=0, file=file) == found
    other = SeedPrompts(inputs=("the cat",), template="tell {input}:")
    for text, seeds in ((file.read_text(), other), ("[]", SEEDS), ('{"about": {}}', SEEDS)):
        file.write_text(text)
        with pytest.raises(FormatError, match=r"words.json: holds words of other settings"):
            sure_words(source, adapter, seeds, seed=0, file=file)


def test_of_many_words_some_are_asked(
    source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "_SURE", 0.0)
    monkeypatch.setattr(words, "_MOST_PROBED", 3)
    asked = [
        {own.text for own in sure_words(source, adapter, SEEDS, seed=seed, file=tmp_path / f"{seed}.json")}
        for seed in range(8)
    ]
    assert {len(own) for own in asked} == {3}
    assert set().union(*asked) == set(vocabulary_words(source.tokenizer))


def test_every_answer_gets_as_many_words_as_there_are() -> None:
    found = [SureWord(f"often{number}", 1, 0.9) for number in range(40)] + [SureWord("rare", 2, 0.9)]
    found += [SureWord(f"some{number}", 3, 0.9) for number in range(6)]
    chosen = chosen_words(found, 20, seed=0)
    assert Counter(word.rstrip("0123456789") for word in chosen) == {"often": 13, "some": 6, "rare": 1}
    assert chosen == chosen_words(found[::-1], 20, seed=0) != chosen_words(found, 20, seed=1)
    assert sorted(chosen_words(found, 100, seed=0)) == sorted(own.text for own in found)
    assert chosen_words([], 5, seed=0) == ()


def test_what_words_do_not_supply_is_asked_for_by_answers(
    source: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "sure_words", lambda *_, **__: [])
    monkeypatch.setattr(asking, "answer_groups", lambda texts: {"rare": texts[:2], "often": texts[2:]})
    seeds, sampling = replace(SEEDS, answer_tokens=1), Sampling(max_tokens=24, batch_size=8, seed=3)
    asked = []
    for opened in (0.0, 0.75):
        folder = tmp_path / str(opened)
        make_corpus(source, adapter, seeds, sampling, folder, wanted=60, manner=Manner(opened=opened))
        asked.append((folder / "inputs-2.jsonl").read_text())
    assert asked[0] == asked[1]


def test_inputs_that_end_alike_are_told_apart_by_the_word_that_they_begin_with(
    source: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = Given(("- the cat\n- bread", "- the cat\n- fish"))
    row = [*source.tokenizer(" sees", add_special_tokens=False)["input_ids"], source.tokenizer.eos_token_id]
    monkeypatch.setattr("ual_registry.distillation.generate.draw", lambda *_, **__: [row, row])
    sampling, kept = Sampling(temperature=0, max_tokens=8, batch_size=2), []
    for is_begun in (True, False):
        file = tmp_path / f"{is_begun}.jsonl"
        found = write_inputs(source, SEEDS, sampling, file, wanted=2, prompts=prompts, is_begun=is_begun)
        kept.append(found.counts["kept"])
    assert kept == [2, 1]


def test_a_share_of_the_inputs_goes_on_from_words(
    source: LoadedBase, target: LoadedBase, adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "_SURE", 0.0)
    monkeypatch.setattr(asking, "answer_groups", lambda texts: {"rare": texts[:2], "often": texts[2:]})
    sampling, manner = Sampling(max_tokens=24, batch_size=4, seed=3), Manner(writers=("source", "target"), opened=0.25)
    made = [
        make_corpus(source, adapter, SEEDS, sampling, tmp_path, wanted=16, target=target, manner=manner)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    known = vocabulary_words(source.tokenizer)
    files = [tmp_path / name for name in ("inputs-3.jsonl", "inputs-by-2-3.jsonl")]
    opened = [json.loads(line) for file in files for line in file.read_text().splitlines()[1:]]
    assert len(opened) == 5  # of 4 wanted, since some are not kept
    openings = [own["prompt"].rsplit("- ", 1)[1] for own in opened]
    assert len(set(openings)) == 5
    assert set(openings) <= set(known)
    inputs = {f"{word}{own['completion']}".strip() for word, own in zip(openings, opened, strict=True)}
    answered = {json.loads(line)["prompt"] for line in (tmp_path / "texts-2.jsonl").read_text().splitlines()[1:]}
    assert {SEEDS.prompt(text) for text in inputs} & answered
