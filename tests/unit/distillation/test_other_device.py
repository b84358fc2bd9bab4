"""What a distillation asks of a model that is on another device is what it is told on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.other_device import moved, other_device, tiny_llama
from ual_registry.distillation.chunks import chunk_sums
from ual_registry.distillation.draw import draw
from ual_registry.distillation.likelihoods import Scorer

_IDS = [[3, 9, 4, 11, 30, 8], [5, 6, 7]]
_WANTED = [[2, 3, 4, 5], [1, 2]]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """A model on the CPU, and the same one elsewhere."""
    model = tiny_llama().requires_grad_(False)
    model.model.layers[0].mlp.down_proj.weight.requires_grad_()
    other = copy.deepcopy(model)
    moved(other)
    return model, other


def likelihoods(model: Any) -> list[list[float]]:
    """Return log-probabilities, the likeliest tokens and theirs, sums of chunks, and a gradient."""
    scorer, weight = Scorer(model), model.model.layers[0].mlp.down_proj.weight
    scores = scorer(_IDS, _WANTED)
    sums = chunk_sums(scores[0], [(0, 2), (2, 3)])
    (gradient,) = torch.autograd.grad(torch.cat(scores).sum() + sums[0], weight)
    best = [part for own in scorer.likeliest(_IDS, _WANTED, 3) for part in own]
    return [part.detach().reshape(-1).tolist() for part in (*scores, sums, gradient, *best)]


def test_likelihoods_and_their_gradients_are_the_same(both: tuple[Any, Any]) -> None:
    own = likelihoods(both[0])
    with other_device():
        other = likelihoods(both[1])
    for found, expected in zip(other, own, strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_texts_are_drawn_the_same(both: tuple[Any, Any]) -> None:
    def drawn(model: Any) -> list[list[int]]:
        with torch.inference_mode():
            return draw(model, _IDS, most=4, temperature=0, top_p=1.0, is_over=lambda own: own[-1] == 7)

    own = drawn(both[0])
    with other_device():
        assert drawn(both[1]) == own
