"""Soft targets: the agreement of a slow reference, its gradients, and what of a teacher's words goes into them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.reference import distillation as reference
from tests.unit.distillation.material import sentences
from tests.unit.distillation.test_likelihoods import TEXTS, WANTED, model_of
from ual_registry.distillation import likelihoods
from ual_registry.distillation.examples import Example, make_examples
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.soft_targets import SoftTargets, in_groups, soft_likelihood, soft_rows
from ual_registry.distillation.teacher import score_texts
from ual_registry.distillation.texts import Ended, Text
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups, token_groups

NAMED = [{0: 0.5, 2: 0.25}, {1: 1.0}, {}]


def soft_of(named: list[dict[int, float]], places: list[int], count: int) -> SoftTargets:
    width = max(map(len, named))
    filled = [list(own.items()) + [(count, 0.0)] * (width - len(own)) for own in named]
    return SoftTargets(
        places=torch.tensor(places),
        groups=torch.tensor([[group for group, _ in own] for own in filled]),
        chances=torch.tensor([[chance for _, chance in own] for own in filled]),
    )


def test_the_agreement_is_that_of_the_slow_reference() -> None:
    groups = TokenGroups(source=torch.zeros(3).long(), target=torch.tensor([0, 1, 1, 2, 3, 0]), count=3)
    chances = torch.softmax(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    soft = soft_rows([soft_of(NAMED, [0, 1, 2], 3)], [3], groups, chances.device)
    tokens = [0, 2, 3]
    found, _ = soft_likelihood(chances, torch.tensor(tokens), soft)
    expected = [
        reference.agreement(row.tolist(), groups.target.tolist(), named)
        + reference.within(row.tolist(), groups.target.tolist(), token)
        for row, named, token in zip(chances, NAMED, tokens, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)  # float32


def test_what_a_sure_student_leaves_to_others_is_not_lost_in_rounding() -> None:
    groups = TokenGroups(source=torch.zeros(3).long(), target=torch.tensor([0, 1, 2]), count=3)
    chances = torch.softmax(torch.tensor([[20.0, 0.0, -1.0]]), dim=1)  # two parts in a thousand million, and less
    soft = soft_rows([soft_of([{0: 0.9}], [0], 3)], [1], groups, chances.device)
    found, slopes = soft_likelihood(chances, torch.tensor([0]), soft)
    exact = torch.softmax(torch.tensor([20.0, 0.0, -1.0], dtype=torch.float64), dim=0).tolist()
    expected = 0.9 * math.log(exact[0]) + 0.1 * math.log(exact[1] + exact[2])
    assert found.tolist() == pytest.approx([expected], rel=1e-5)
    assert slopes[0].sum().item() == pytest.approx(0.0, abs=1e-6)


def test_of_a_group_the_token_that_stands_there_is_learnt() -> None:
    groups = TokenGroups(source=torch.zeros(2).long(), target=torch.tensor([0, 0, 1, 2]), count=2)
    logits = torch.zeros(2, 4, requires_grad=True)
    soft = soft_rows([soft_of([{0: 1.0}, {0: 0.5}], [0, 1], 2)], [2], groups, logits.device)
    found, slopes = soft_likelihood(torch.softmax(logits, dim=1), torch.tensor([1, 3]), soft)
    # the first token is told apart from the other one of its group; the second is in no group
    assert found.tolist() == pytest.approx([math.log(0.5) + math.log(0.5), math.log(0.5)])
    torch.autograd.backward(found.sum())
    torch.testing.assert_close(logits.grad, slopes)
    assert slopes[0].tolist() == pytest.approx([-0.25, 0.75, -0.25, -0.25])


@pytest.mark.parametrize("at_once", [1, 1 << 24])
@pytest.mark.parametrize(
    ("architecture", "changes"), [("llama", {}), ("gemma3_text", {"final_logit_softcapping": 3.0})]
)
def test_a_frozen_head_gives_the_gradients_of_one_that_is_not(
    architecture: str, changes: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihoods, "_LOGITS_AT_ONCE", at_once)
    results = []
    for is_frozen in (False, True):
        model = model_of(architecture, tie_word_embeddings=False, **changes)
        model.get_output_embeddings().requires_grad_(not is_frozen)
        vocabulary = model.config.vocab_size
        groups = TokenGroups(source=torch.zeros(1).long(), target=torch.arange(vocabulary) % 7, count=6)
        soft = [soft_of(NAMED, [0, 1, 3], 6), None, soft_of(NAMED[:1], [1], 6)]
        found = torch.cat(Scorer(model, groups)(TEXTS, WANTED, soft))
        torch.autograd.backward((found * torch.tensor([0.5, -1.0, 2.0, 3.0, 0.25, 1.0])).sum())
        grads = {name: own.grad for name, own in model.named_parameters() if own.grad is not None}
        results.append((found, {name: grad for name, grad in grads.items() if "lm_head" not in name}))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert results[0][1].keys() == results[1][1].keys()
    for name, grad in results[0][1].items():
        torch.testing.assert_close(grad, results[1][1][name], rtol=1e-4, atol=1e-6)


def test_tokens_of_one_group_are_named_once_and_those_of_none_are_left_out() -> None:
    groups = TokenGroups(source=torch.tensor([1, 0, 1, 2]), target=torch.zeros(1).long(), count=2)
    named, chances = in_groups(torch.tensor([[0, 2, 1, 3]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log(), groups)
    assert named.tolist() == [[0, 1, 2, 2]]
    assert chances[0].tolist() == pytest.approx([0.2, 0.7, 0.0, 0.0])


def test_the_teacher_names_what_is_likeliest_in_every_place(source: LoadedBase, adapter: Named) -> None:
    scorer = Scorer(source.model)
    ids, wanted = [(0, 5, 9, 6), (0, 7)], [(1, 3), (1,)]
    with torch.no_grad():
        plain = scorer(ids, wanted)
    for own, (logs, tokens, chances), text, places in zip(
        plain, scorer.likeliest(ids, wanted, 3), ids, wanted, strict=True
    ):
        torch.testing.assert_close(own, logs)
        with torch.no_grad():
            whole = torch.log_softmax(source.model(input_ids=torch.tensor([text])).logits[0], dim=1)
        best = whole[[place - 1 for place in places]].topk(3, dim=1)
        torch.testing.assert_close(chances, best.values, rtol=1e-4, atol=1e-4)
        assert tokens.tolist() == best.indices.tolist()


def test_a_text_gets_soft_targets_where_both_have_read_equally_far(
    source: LoadedBase, target: LoadedBase, adapter: Named
) -> None:
    texts = [
        Text(batch=0, prompt=text[:4], completion=text[4:], ended=Ended.END, tokens=1) for text in sentences(6, seed=6)
    ]
    scores = score_texts(source.model, source.tokenizer, adapter.adapter, texts, material={})
    sizes = [base.model.get_output_embeddings().weight.shape[0] for base in (source, target)]
    groups = token_groups(source.tokenizer, target.tokenizer, sizes=(sizes[0], sizes[1]))

    def made(*, is_soft: bool) -> list[Example]:
        recipe = Recipe(is_soft=is_soft)
        found = make_examples(target.model, target.tokenizer, texts, scores, recipe, groups=groups)
        return [*found.held_out, *found.train]

    for own, hard in zip(made(is_soft=True), made(is_soft=False), strict=True):
        assert own.ids == hard.ids
        assert own.wanted == hard.wanted
        assert (own.spans, len(own.teacher)) == ((), 0)
        assert hard.soft is None
        assert own.soft is not None
        assert own.soft.places.tolist() == [first for first, _ in hard.spans]
        assert bool((own.soft.chances.sum(dim=1) <= 1 + 1e-5).all())
        # the teacher's word for the token that stands there is at least as likely as the whole chunk
        for place, teacher in zip(range(len(own.soft.places)), hard.teacher.tolist(), strict=True):
            token = own.ids[own.wanted[int(own.soft.places[place])]]
            is_it = own.soft.groups[place] == groups.target[token]
            assert float(own.soft.chances[place][is_it].sum()) >= min(torch.tensor(teacher).exp().item(), 1e-3) - 1e-3
