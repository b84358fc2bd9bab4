"""Texts for the target: which are held out, which tokens count, and what chunks are compared with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.distillation.material import sentences
from ual_registry.distillation.chunks import chunk_sums
from ual_registry.distillation.examples import Example, Examples, make_examples
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.teacher import score_texts
from ual_registry.distillation.texts import Ended, Text
from ual_registry.models.loaded import LoadedBase


@pytest.fixture
def make(source: LoadedBase, target: LoadedBase, adapter: Named) -> Any:
    texts = [
        Text(batch=0, prompt=text[:4], completion=text[4:], ended=Ended.END, tokens=1)
        for text in (*sentences(10, seed=6), *sentences(10, seed=6))
    ]
    scores = score_texts(source.model, source.tokenizer, adapter.adapter, texts, material={})
    return lambda **changes: make_examples(target.model, target.tokenizer, texts, scores, Recipe(**changes))


def every(examples: Examples) -> tuple[Example, ...]:
    return examples.held_out + examples.train


def test_the_same_text_is_never_on_both_sides(make: Any) -> None:
    examples = make(held_out_share=0.5)
    sides = [{own.ids for own in side} for side in (examples.train, examples.held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert len(every(examples)) == 20


def test_the_end_of_a_text_is_learnt_and_its_prompt_is_not(make: Any) -> None:
    for own in every(make(token_share=0.7)):
        assert own.ids[-1] == 1
        assert own.wanted == tuple(range(own.wanted[0], len(own.ids)))
        assert own.wanted[0] >= 1
        assert bool(own.selected[-1])
        # seven in ten of the tokens of the text, rounded up, and the end
        assert int(own.selected.sum()) <= -(-7 * (len(own.wanted) - 1) // 10) + 1


def test_without_the_chunk_loss_only_selected_tokens_are_computed(make: Any) -> None:
    for with_chunks, own in zip(
        every(make(token_share=0.7)), every(make(token_share=0.7, alm_weight=0.0)), strict=True
    ):
        assert own.selected.all()
        assert own.wanted == tuple(torch.tensor(with_chunks.wanted)[with_chunks.selected].tolist())
        assert (own.spans, len(own.teacher)) == ((), 0)


def test_a_text_that_is_too_long_is_cut_with_its_chunks(make: Any) -> None:
    for own in every(make(max_length=6, token_share=1.0)):
        assert len(own.ids) <= 6
        assert len(own.spans) == len(own.teacher) == len(own.excess)
        assert all(after <= len(own.wanted) for _, after in own.spans)


def test_a_text_is_cut_where_the_target_can_read_no_further(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [own.ids for own in every(make(max_length=6))]
    monkeypatch.setattr("ual_registry.distillation.examples.position_limit", lambda _: 6)
    assert [own.ids for own in every(make())] == expected
    assert {len(ids) for ids in expected} == {6}


def test_a_contrastive_target_starts_from_the_targets_own_chunks(make: Any, target: LoadedBase) -> None:
    scorer = Scorer(target.model)
    for own in every(make(is_contrastive=True)):
        with torch.no_grad():
            (log_probs,) = scorer([own.ids], [own.wanted])
        expected = (chunk_sums(log_probs, own.spans) + own.excess).clamp(max=0)
        torch.testing.assert_close(own.teacher, expected, rtol=1e-4, atol=1e-4)
