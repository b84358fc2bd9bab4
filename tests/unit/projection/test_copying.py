"""The cosine of two weights, and the rule that hangs on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import DTYPES, random_factors, random_rows
from ual_registry.errors import ShapeError, TransferError
from ual_registry.projection import copying
from ual_registry.projection.copying import LINEAGE_THRESHOLD, copy_within_lineage, lineage_cosine


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_cosine_is_that_of_long_vectors(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_ROWS", 3)  # several blocks of rows
    one, other = (random_rows(10, 4, seed=seed).to(dtype) for seed in (0, 1))
    expected = reference.cosine(one.double().numpy(), other.double().numpy())
    assert lineage_cosine(one, other) == pytest.approx(expected, rel=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(0, 99))
def test_a_weight_is_of_its_own_lineage_whatever_its_size(number: float, seed: int) -> None:
    weight = random_rows(5, 4, seed=seed)
    assert lineage_cosine(weight, number * weight) == pytest.approx(1.0, rel=1e-14)
    assert lineage_cosine(weight, -number * weight) == pytest.approx(-1.0, rel=1e-14)
    assert abs(lineage_cosine(weight, number * weight)) <= 1.0


def test_the_zero_weight_has_no_direction() -> None:
    assert lineage_cosine(torch.zeros(3, 2), torch.ones(3, 2)) == 0.0


def test_an_update_is_copied_inside_a_lineage() -> None:
    factors, weight = random_factors(2, 6, 5), random_rows(5, 6)
    found = copy_within_lineage(factors, weight, weight + 0.1 * random_rows(5, 6, seed=1))
    np.testing.assert_array_equal(found.lora_A, factors.lora_A)
    np.testing.assert_array_equal(found.lora_B, factors.lora_B)


def test_the_cosine_must_be_above_the_threshold() -> None:
    factors, weight = random_factors(1, 2, 1), torch.tensor([[3.0, 4.0]])
    other = torch.tensor([[0.0, 1.0]])  # a cosine of 0.8
    assert copy_within_lineage(factors, weight, other, threshold=0.79) is factors
    for options in ({}, {"threshold": 0.8}):
        with pytest.raises(TransferError) as caught:
            copy_within_lineage(factors, weight, other, **options)
        limit = options.get("threshold", LINEAGE_THRESHOLD)
        assert (caught.value.message, caught.value.problem_code, caught.value.hint, caught.value.context) == (
            f"the base weights are not of one lineage: their cosine is 0.800 (expected above {limit:g})",
            "not-one-lineage",
            "choose a method that aligns the two models",
            {"cosine": pytest.approx(0.8)},
        )


def test_a_weight_that_is_not_finite_is_of_no_lineage() -> None:
    factors, weight = random_factors(1, 2, 1), torch.tensor([[1.0, torch.nan]])
    with pytest.raises(TransferError):
        copy_within_lineage(factors, weight, weight)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        lineage_cosine(torch.ones(2, 3), torch.ones(3, 2))
    assert caught.value.message == "weights of shapes (2, 3) and (3, 2): expected one shape"
    with pytest.raises(ShapeError) as caught:
        copy_within_lineage(random_factors(1, 2, 1), torch.ones(2, 1), torch.ones(2, 1))
    assert caught.value.message == "weight of shape (2, 1): expected (1, 2), that of the update"
