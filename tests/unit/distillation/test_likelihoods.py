"""Log-probabilities of tokens: equal to one forward pass for each, with gradients, in pieces or whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.peft_folders import ARCHITECTURES, model_module, tiny_config
from tests.reference.distillation import token_log_probs
from ual_registry.distillation import likelihoods
from ual_registry.distillation.likelihoods import Scorer

TEXTS = [(1, 5, 9, 2, 7), (3, 4), (1, 8, 8, 6)]
WANTED = [(1, 2, 3, 4), (), (2, 3)]


def model_of(architecture: str, **changes: Any) -> Any:
    torch.manual_seed(5)
    return getattr(model_module(architecture), ARCHITECTURES[architecture].causal)(
        tiny_config(architecture, **changes)
    ).eval()


@pytest.mark.parametrize("at_once", [1, 1 << 24])
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("llama", {}), ("gpt2", {}), ("gpt_neox", {}), ("gemma3_text", {"final_logit_softcapping": 3.0})],
)
def test_scores_are_those_of_one_pass_for_each_token(
    architecture: str, changes: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihoods, "_LOGITS_AT_ONCE", at_once)
    model = model_of(architecture, **changes)
    scorer = Scorer(model)
    assert scorer.is_in_pieces
    for found, text, wanted in zip(scorer(TEXTS, WANTED), TEXTS, WANTED, strict=True):
        expected = token_log_probs(model, text)
        # float32: padding and batches change the order of its sums
        assert found.tolist() == pytest.approx([expected[position - 1] for position in wanted], abs=1e-5)


def test_a_model_that_scales_its_logits_in_its_own_way_is_asked_for_them_whole() -> None:
    model = model_of("llama")
    plain = [own.tolist() for own in Scorer(model)(TEXTS, WANTED)]
    inner = model.forward

    def scaled(*args: Any, **named: Any) -> Any:
        out = inner(*args, **named)
        out.logits = out.logits * 2
        return out

    model.forward = scaled
    scorer = Scorer(model)
    assert not scorer.is_in_pieces
    found = [own.tolist() for own in scorer(TEXTS, WANTED)]
    assert found != plain
    assert found[0] == pytest.approx(token_log_probs(model, TEXTS[0]), abs=1e-5)


def test_gradients_are_the_same_in_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for at_once in (1, 1 << 24):
        monkeypatch.setattr(likelihoods, "_LOGITS_AT_ONCE", at_once)
        model = model_of("llama")
        torch.autograd.backward(torch.cat(Scorer(model)(TEXTS, WANTED)).sum())
        gradients.append(model.model.layers[0].self_attn.q_proj.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("architecture", "changes"), [("llama", {}), ("gpt_neox", {}), ("gemma3_text", {"final_logit_softcapping": 3.0})]
)
def test_a_frozen_head_gives_the_gradients_of_one_that_is_not(architecture: str, changes: dict[str, Any]) -> None:
    gradients = []
    for is_frozen in (False, True):
        model = model_of(architecture, tie_word_embeddings=False, **changes)
        model.get_output_embeddings().requires_grad_(not is_frozen)
        weights = torch.tensor([0.5, -1.0, 2.0, 3.0, 0.25, 1.0])
        torch.autograd.backward((torch.cat(Scorer(model)(TEXTS, WANTED)) * weights).sum())
        gradients.append([own.grad for name, own in model.named_parameters() if own.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) + 1
    for one, other in zip(*gradients, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
