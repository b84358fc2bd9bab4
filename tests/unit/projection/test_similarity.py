"""Kernel alignment from moments against centred n x n kernels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import isometry, moments_of, random_rows, related_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.similarity import linear_cka, unbiased_cka, unbiased_products

LAWS = settings(max_examples=30, deadline=None)


@LAWS
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_it_is_that_of_centred_kernels(count: int, width: int, other_width: int, seed: int) -> None:
    x, y = related_rows(count, width, other_width, seed=seed)
    found = linear_cka(moments_of(x, y))
    assert found == pytest.approx(reference.cka(x.numpy(), y.numpy()), rel=1e-10)
    assert 0.0 <= found <= 1.0


@LAWS
@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.integers(0, 99))
def test_turning_moving_and_scaling_change_nothing(number: float, shift: float, seed: int) -> None:
    x, y = related_rows(30, 4, 5, seed=seed)
    moved = number * x @ isometry(7, 4, seed=seed).T + shift
    # A shift of 100 over a spread of a thousandth costs five digits.
    assert linear_cka(moments_of(moved, y)) == pytest.approx(linear_cka(moments_of(x, y)), rel=1e-6)
    assert linear_cka(moments_of(moved, x)) == pytest.approx(1.0, rel=1e-6)


def test_both_sides_count_the_same() -> None:
    x, y = related_rows(30, 4, 5)
    assert linear_cka(moments_of(x, y)) == pytest.approx(linear_cka(moments_of(y, x)), rel=1e-14)


def test_a_side_that_does_not_vary_is_like_nothing() -> None:
    x = random_rows(10, 3)
    assert linear_cka(moments_of(x, torch.ones(10, 2))) == 0.0
    assert linear_cka(moments_of(x[:1], x[:1])) == 0.0
    assert linear_cka(PairMoments(3, 2)) == 0.0


def unbiased(x: torch.Tensor, y: torch.Tensor) -> float:
    return unbiased_cka(unbiased_products(x), unbiased_products(y))


def dependence(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the unbiased estimate of dependence, times n (n - 3), term by term."""
    count = len(x)
    own, other = x @ x.T, y @ y.T
    own, other = own - torch.diag(own.diagonal()), other - torch.diag(other.diagonal())
    traced = (own * other).sum()
    totals = own.sum() * other.sum() / ((count - 1) * (count - 2))
    return float(traced + totals - 2 / (count - 2) * (own.sum(0) * other.sum(0)).sum())


@LAWS
@given(st.integers(4, 30), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_without_bias_it_is_that_of_the_estimator_term_by_term(
    count: int, width: int, other_width: int, seed: int
) -> None:
    x, y = related_rows(count, width, other_width, seed=seed)
    sizes = dependence(x, x) * dependence(y, y)
    assert unbiased(x, y) == pytest.approx(min(dependence(x, y) / sizes**0.5, 1.0), rel=1e-6, abs=1e-9)


def test_with_many_rows_both_come_to_the_same() -> None:
    x, y = related_rows(2000, 4, 5)
    assert unbiased(x, y) == pytest.approx(linear_cka(moments_of(x, y)), abs=0.01)


def test_few_unrelated_rows_of_many_features_are_alike_by_bias_alone() -> None:
    biased, corrected = [], []
    for seed in range(20):
        x, y = random_rows(20, 200, seed=seed), random_rows(20, 200, seed=seed + 100)
        biased.append(linear_cka(moments_of(x, y)))
        corrected.append(unbiased(x, y))
    assert min(biased) > 0.8
    assert abs(sum(corrected) / 20) < 0.05


def test_a_side_that_does_not_vary_is_like_nothing_without_bias_too() -> None:
    assert unbiased(random_rows(10, 3), torch.ones(10, 2)) == 0.0


def test_rows_that_cannot_be_compared_are_refused() -> None:
    for rows in (random_rows(3, 5), torch.full((5, 2), float("nan"))):
        with pytest.raises(NumericalError) as caught:
            unbiased_products(rows)
        assert caught.value.message == (f"{len(rows)} rows to compare: expected at least four, all of them finite")
    with pytest.raises(ShapeError) as refused:
        unbiased_cka(torch.zeros(4, 4), torch.zeros(5, 5))
    assert refused.value.message == "products of 5 rows: expected 4"
