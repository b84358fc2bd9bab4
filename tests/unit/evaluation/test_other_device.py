"""Likelihoods of a model that is on another device are those on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.other_device import NAME, moved, other_device, tiny_llama
from ual_registry.evaluation.likelihood import answer_scores, greedy, token_scores
from ual_registry.evaluation.prompts import Question

_TEXT = [3, 9, 4, 11, 30, 8]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """A model on the CPU, and the same one elsewhere."""
    model = tiny_llama().double()
    other = copy.deepcopy(model)
    moved(other)
    assert other.device == torch.device(NAME)
    return model, other


def test_answers_and_texts_score_the_same(both: tuple[Any, Any]) -> None:
    questions = [Question((3, 9, 4), ((5,), (6, 7, 8), (1, 2))), Question((8, 2, 11), ((1,),))]
    own = answer_scores(both[0], questions), token_scores(both[0], _TEXT)
    with other_device():
        other = answer_scores(both[1], questions), token_scores(both[1], _TEXT)
    for found, expected in zip([*other[0], other[1]], [*own[0], own[1]], strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


def test_texts_go_on_the_same(both: tuple[Any, Any]) -> None:
    own = greedy(both[0], [[3, 9, 4], [8, 2, 11]], most=4, ends=frozenset())
    with other_device():
        assert greedy(both[1], [[3, 9, 4], [8, 2, 11]], most=4, ends=frozenset()) == own
