"""Joint write maps against a slow, obvious solution, and on what outputs alone cannot tell."""

from __future__ import annotations

import pytest
import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.joint import best_joint, joint
from ual_registry.projection.maps import Direction, ridge
from ual_registry.projection.moments import PairMoments


def moments(x: torch.Tensor, y: torch.Tensor) -> PairMoments:
    found = PairMoments(x.shape[1], y.shape[1])
    found.update(x, y)
    return found


def rows(seed: int, count: int, width: int, rank: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(count, rank or width, generator=generator, dtype=torch.float64)
    if rank is None:
        return own
    return own @ torch.randn(rank, width, generator=generator, dtype=torch.float64)


def eye(width: int) -> torch.Tensor:
    return torch.eye(width, dtype=torch.float64)


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_the_solution_is_that_of_the_written_out_system(penalty: float) -> None:
    y_s, y_t = rows(1, 40, 3), rows(2, 40, 4)
    g_s, g_t = rows(3, 50, 3), rows(4, 50, 4)
    (found,) = joint(moments(y_s, y_t), moments(g_s, g_t), penalties=[penalty])

    a, b = y_s - y_s.mean(0), y_t - y_t.mean(0)
    u, v = a.square().sum() / 3, g_t.square().sum() / 4
    left, right = g_t.T @ g_t / v, a.T @ a / u
    wanted = b.T @ a / u + g_t.T @ g_s / v
    system = torch.kron(left, eye(3)) + torch.kron(eye(4), right) + penalty * eye(12)
    expected = torch.linalg.solve(system, wanted.flatten()).reshape(4, 3)
    torch.testing.assert_close(found.matrix, expected, rtol=1e-9, atol=1e-12)  # two float64 solutions of one system
    torch.testing.assert_close(found.bias, y_t.mean(0) - expected @ y_s.mean(0), rtol=1e-9, atol=1e-12)


def test_gradients_tell_what_outputs_of_low_rank_leave_open() -> None:
    true = rows(1, 6, 6)
    y_s, g_t = rows(2, 400, 6, rank=3), rows(3, 400, 6)
    outputs, gradients = moments(y_s, y_s @ true.T), moments(g_t @ true, g_t)
    (found,) = joint(outputs, gradients, penalties=[1e-9])
    torch.testing.assert_close(found.matrix, true, rtol=1e-6, atol=1e-6)  # the penalty is 1e-9 of a second moment
    alone = ridge(outputs, penalty=1e-9, direction=Direction.X_TO_Y)
    assert float((alone.matrix - true).norm() / true.norm()) > 0.3


def test_the_penalty_that_predicts_best_is_taken() -> None:
    true = rows(1, 4, 4)

    def pair(seed: int) -> tuple[PairMoments, PairMoments]:
        y_s, g_t = rows(seed, 60, 4), rows(seed + 1, 60, 4)
        return moments(y_s, y_s @ true.T), moments(g_t @ true, g_t)

    (fit, fit_gradients), (held, held_gradients) = pair(2), pair(4)
    found, score = best_joint((fit, held), (fit_gradients, held_gradients), penalties=[10.0, 1e-6, 1.0])
    assert found.report is not None
    assert found.report.penalty == 1e-6
    assert score == pytest.approx(1.0, abs=1e-9)


def test_outputs_and_gradients_that_never_move_give_the_zero_map() -> None:
    still = torch.zeros(5, 3, dtype=torch.float64)
    (found,) = joint(moments(still, still), moments(still, still), penalties=[0.0])
    assert torch.equal(found.matrix, torch.zeros(3, 3, dtype=torch.float64))


def test_what_does_not_fit_together_is_refused() -> None:
    one, other = moments(rows(1, 5, 3), rows(2, 5, 4)), moments(rows(1, 5, 3), rows(2, 5, 3))
    with pytest.raises(ShapeError, match=r"^gradients of widths \(3, 3\): expected \(3, 4\)$"):
        joint(one, other, penalties=[1.0])
    with pytest.raises(NumericalError, match="expected rows of outputs and of gradients"):
        joint(one, PairMoments(3, 4), penalties=[1.0])
    with pytest.raises(NumericalError, match="expected at least one"):
        best_joint((one, one), (one, one), penalties=[])
