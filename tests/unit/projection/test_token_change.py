"""From a wanted change of probabilities to a change of states, against descent row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import predictions as reference
from tests.unit.projection.samples import DTYPES, random_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.token_change import divergence, log_changes, state_change, with_rest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(count: int, tokens: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits, wanted probabilities and directions."""
    wanted = torch.softmax(2 * normal(count, tokens, seed=seed + 1), dim=1)
    return 2 * normal(count, tokens, seed=seed), wanted, normal(count, tokens, width, seed=seed + 2)


def test_the_rest_of_the_probability_is_appended() -> None:
    logs = torch.tensor([[0.5, 0.25], [0.75, 0.25]]).log()
    np.testing.assert_allclose(with_rest(logs, least=1e-3).exp(), [[0.5, 0.25, 0.25], [0.75, 0.25, 1e-3]], rtol=1e-6)
    assert with_rest(logs).dtype == torch.float64


def test_a_distribution_is_changed_as_another_was() -> None:
    own, before, after = (torch.log_softmax(normal(4, 5, seed=seed), dim=1) for seed in range(3))
    expected = [reference.contrast(*(row.numpy() for row in rows)) for rows in zip(own, before, after, strict=True)]
    found = torch.softmax(own + log_changes(own, before, after, teacher_weight=0.0), dim=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not log_changes(own, before, before, teacher_weight=0.0).any()


def test_a_distribution_comes_to_be_what_the_other_says_as_its_opinion_counts() -> None:
    own, before, after = (torch.log_softmax(normal(4, 5, seed=seed), dim=1) for seed in range(3))
    np.testing.assert_allclose(own + log_changes(own, before, after, teacher_weight=1.0), after, rtol=1e-12)
    ends = [log_changes(own, before, after, teacher_weight=weight) for weight in (0.0, 1.0)]
    half = log_changes(own, before, after, teacher_weight=0.5)
    np.testing.assert_allclose(half, (ends[0] + ends[1]) / 2, rtol=1e-12)


def test_no_change_of_a_logarithm_passes_the_limit() -> None:
    own = torch.tensor([[0.5, 0.5]]).log()
    before, after = torch.tensor([[-90.0, -1.0]]), torch.tensor([[-1.0, -1.0]])
    assert log_changes(own, before, after, teacher_weight=0.0, limit=2.0).tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_divergence_is_that_of_the_definition(dtype: torch.dtype) -> None:
    logits, wanted, _ = (item.to(dtype) for item in problem(3, 4, 2))
    wanted[0, 0] = 0.0
    pairs = zip(wanted.double().numpy(), logits.double().numpy(), strict=True)
    np.testing.assert_allclose(divergence(wanted, logits), [reference.divergence(*pair) for pair in pairs], rtol=1e-9)


@pytest.mark.parametrize("penalty", [0.05, 1.0])
@pytest.mark.parametrize("width", [3, 9])
def test_the_change_of_a_state_is_that_of_descent(penalty: float, width: int) -> None:
    logits, wanted, directions = problem(4, 6, width)
    found = state_change(logits, wanted, directions, penalty=penalty)
    expected = [
        reference.state_change(z.numpy(), q.numpy(), v.numpy(), penalty)
        for z, q, v in zip(logits, wanted, directions, strict=True)
    ]
    np.testing.assert_allclose(found.change, expected, rtol=0, atol=1e-8)  # descent stops at a slope of 1e-12
    after = logits + torch.einsum("nmd,nd->nm", directions, found.change)
    np.testing.assert_allclose(found.before, divergence(wanted, logits), rtol=1e-12)
    np.testing.assert_allclose(found.after, divergence(wanted, after), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12), st.integers(1, 12), st.sampled_from([0.01, 0.05, 0.5]))
def test_the_slope_is_zero_where_newton_stops(seed: int, tokens: int, width: int, penalty: float) -> None:
    logits, wanted, directions = problem(3, tokens, width, seed)
    found = state_change(logits, wanted, directions, penalty=penalty, steps=40)
    given_by = torch.softmax(logits + torch.einsum("nmd,nd->nm", directions, found.change), dim=1)
    slope = torch.einsum("nmd,nm->nd", directions, given_by - wanted) + penalty * found.change
    assert float(slope.abs().max()) < 1e-8
    assert bool((found.after <= found.before + 1e-12).all())


def test_a_wanted_distribution_that_is_there_changes_nothing() -> None:
    logits, _, directions = problem(3, 5, 4)
    found = state_change(logits, torch.softmax(logits, dim=1), directions)
    np.testing.assert_allclose(found.change, np.zeros((3, 4)), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"penalty": 0.0}, NumericalError, "penalty 0.0: expected a number above 0"),
        (
            {"wanted": random_rows(2, 4)},
            ShapeError,
            "logits, wanted, directions of shapes [(2, 3), (2, 4), (2, 3, 5)]: expected (n, m), (n, m), (n, m, d)",
        ),
        (
            {"logits": torch.full((2, 3), torch.nan)},
            NumericalError,
            "logits, wanted probabilities or directions hold a number that is not finite",
        ),
    ],
)
def test_what_has_no_solution_is_refused(change: dict[str, object], kind: type[Exception], message: str) -> None:
    logits, wanted, directions = problem(2, 3, 5)
    asked: dict[str, object] = {"logits": logits, "wanted": wanted, "directions": directions, **change}
    with pytest.raises(kind) as caught:
        state_change(**asked)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_distributions_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        log_changes(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4), teacher_weight=0.5)
    assert str(caught.value) == "log-probabilities of shapes [(2, 3), (2, 3), (2, 4)]: differ"
