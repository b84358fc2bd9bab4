"""Kernel alignment from moments against centred n x n kernels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import isometry, moments_of, random_rows, related_rows
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.similarity import linear_cka

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
