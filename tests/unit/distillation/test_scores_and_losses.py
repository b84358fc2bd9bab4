"""Scores and losses against slow references and hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.reference import distillation as slow
from ual_registry.distillation.losses import alm, contrastive_target, sequence_nll
from ual_registry.distillation.scores import excess, sample_score, select_samples, select_tokens, spread


def test_the_mean_excess_of_a_text_is_its_score() -> None:
    scores = excess(torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -2.5]))
    assert scores.tolist() == [2.0, 0.5]
    assert sample_score(scores) == 1.25
    assert sample_score(scores[:0]) == -math.inf


@pytest.mark.parametrize(("share", "expected"), [(1.0, (0, 1, 2, 3)), (0.5, (1, 2)), (0.75, (1, 2, 3)), (0.01, (1,))])
def test_the_best_texts_are_kept_in_their_order(share: float, expected: tuple[int, ...]) -> None:
    assert select_samples([0.0, 3.0, 3.0, 1.0], share) == expected


def test_scores_are_copied_averaged_and_spread_over_the_tokens_of_a_chunk() -> None:
    # one to one, one to two, two to one, two to two; tokens 0 and 7 belong to no chunk
    scores = torch.tensor([1.0, 2.0, 3.0, 5.0, 1.0, 2.0])
    source = ((0, 1), (1, 2), (2, 4), (4, 6))
    target = ((1, 2), (2, 4), (4, 5), (5, 7))
    assert spread(scores, source, target, 8).tolist() == [-math.inf, 1.0, 2.0, 2.0, 4.0, 1.5, 1.5, -math.inf]


@pytest.mark.parametrize(("share", "expected"), [(1.0, "0111"), (0.7, "0111"), (0.5, "0110"), (0.3, "0100")])
def test_the_best_tokens_are_marked_the_earlier_of_two_equal_ones_first(share: float, expected: str) -> None:
    marked = select_tokens(torch.tensor([-math.inf, 2.0, 2.0, 1.0]), share)
    assert "".join(str(int(own)) for own in marked) == expected


def test_nothing_is_marked_where_nothing_has_a_score() -> None:
    assert select_tokens(torch.full((3,), -math.inf), 0.5).tolist() == [False] * 3


def test_the_likelihood_is_the_mean_over_the_selected_tokens() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -6.0], requires_grad=True)
    assert float(sequence_nll(log_probs, torch.tensor([True, False, True])).detach()) == 3.5
    nothing = sequence_nll(log_probs, torch.zeros(3, dtype=torch.bool))
    torch.autograd.backward(nothing)
    assert log_probs.grad is not None
    assert (float(nothing.detach()), log_probs.grad.tolist()) == (0.0, [0.0] * 3)


@pytest.mark.parametrize("temperature", [1.0, 7.0, 100.0])
def test_the_chunk_loss_is_that_of_the_formula(temperature: float) -> None:
    teacher = torch.tensor([-0.1, -3.0, -40.0, -12.0], dtype=torch.float64)
    student = torch.tensor([-2.0, -3.0, -5.0, -0.02], dtype=torch.float64)
    found = float(alm(teacher, student, temperature))
    # float64 both times; the reference loses digits where it takes a power and subtracts it from 1
    assert found == pytest.approx(slow.alm(teacher.tolist(), student.tolist(), temperature), rel=1e-9)


def test_the_chunk_loss_pulls_the_student_to_the_teacher_and_stays_finite() -> None:
    teacher = torch.tensor([-5.0, -5.0, -5.0, 0.0])
    student = torch.tensor([-9.0, -5.0, -1.0, 0.0], requires_grad=True)
    loss = alm(teacher, student)
    torch.autograd.backward(loss)
    assert student.grad is not None
    low, equal, high, certain = student.grad.tolist()
    assert low < 0 < high
    assert equal == pytest.approx(0.0, abs=1e-7)  # float32
    assert math.isfinite(float(loss.detach()))
    assert math.isfinite(certain)
    assert float(alm(teacher[:0], student[:0]).detach()) == 0.0


def test_the_contrastive_target_is_the_base_plus_what_the_adapter_added() -> None:
    assert contrastive_target(torch.tensor([-4.0, -1.0]), torch.tensor([1.5, 3.0])).tolist() == [-2.5, 0.0]
