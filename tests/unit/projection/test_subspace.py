"""Projection through singular subspaces against dense matrices and every choice of signs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import DTYPES, dense, isometry, random_factors, random_rows
from ual_registry.errors import ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.subspace import (
    Subspaces,
    leading_subspaces,
    sign_variance,
    subspace,
    subspace_energy,
    through_subspaces,
)

LAWS = settings(max_examples=25, deadline=None)
SOURCE, TARGET = random_rows(5, 6, seed=3), random_rows(8, 7, seed=4)
FACTORS = random_factors(2, 6, 5)


@pytest.mark.parametrize("k", [1, 3, 5, 320, None])
def test_an_update_goes_from_the_pairs_of_one_weight_to_those_of_the_other(k: int | None) -> None:
    found = subspace(FACTORS, SOURCE, TARGET, k)
    expected = reference.through_subspaces(dense(FACTORS), SOURCE.numpy(), TARGET.numpy(), k or 320)
    assert (found.rank, found.in_features, found.out_features) == (2, 7, 8)
    # Singular vectors of normal numbers: rounding over the gaps between singular values.
    np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-11)


@LAWS
@given(st.integers(1, 5), st.integers(0, 99))
def test_a_weight_to_itself_is_the_identity_at_full_k(rank: int, seed: int) -> None:
    weight, factors = random_rows(6, 6, seed=seed), random_factors(rank, 6, 6, seed=seed)
    found = subspace(factors, weight, weight)
    np.testing.assert_allclose(dense(found), dense(factors), rtol=0, atol=1e-11)


@LAWS
@given(st.integers(0, 99))
def test_a_weight_in_turned_bases_gets_the_turned_update_up_to_signs(seed: int) -> None:
    """Where the pairing by rank holds, the result is right but for signs, and the sign variance says what those do."""
    turn_out, turn_in = isometry(5, 5, seed=seed), isometry(6, 6, seed=seed + 1)
    found = subspace(FACTORS, SOURCE, turn_out @ SOURCE @ turn_in.T)
    right = turn_out.numpy() @ dense(FACTORS) @ turn_in.numpy().T
    left, _, right_vectors = np.linalg.svd((turn_out @ SOURCE @ turn_in.T).numpy(), full_matrices=False)
    cores = [np.abs(left.T @ matrix @ right_vectors.T) for matrix in (dense(found), right)]
    np.testing.assert_allclose(*cores, rtol=0, atol=1e-10)


@LAWS
@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
def test_the_sign_variance_is_the_mean_over_every_choice_of_signs(rank: int, k: int, seed: int) -> None:
    factors = random_factors(rank, 6, 5, seed=seed)
    found = sign_variance(factors, leading_subspaces(SOURCE, k), leading_subspaces(TARGET, k))
    expected = reference.sign_variance(dense(factors), SOURCE.numpy(), TARGET.numpy(), k)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert 0.0 <= found <= 2.0


@pytest.mark.parametrize("flips", [(0,), (1, 3), (0, 1, 2, 3, 4)], ids=str)
def test_signs_are_fixed_by_the_largest_entry_of_the_right_vector(flips: tuple[int, ...]) -> None:
    """Flipping pairs of a weight's decomposition gives the same weight, and must give the same subspaces."""
    left, values, right = torch.linalg.svd(SOURCE, full_matrices=False)
    for index in flips:
        left[:, index] *= -1
        right[index] *= -1
    found = leading_subspaces((left * values) @ right)
    pairs = reference.singular_pairs(SOURCE.numpy())
    np.testing.assert_allclose(found.left, pairs[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.right, pairs[1], rtol=0, atol=1e-12)
    largest = found.right.gather(0, found.right.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


@LAWS
@given(st.integers(1, 3), st.integers(0, 99))
def test_the_energy_inside_grows_with_k_to_all_of_it(rank: int, seed: int) -> None:
    weight, factors = random_rows(6, 6, seed=seed), random_factors(rank, 6, 6, seed=seed)
    shares = [subspace_energy(factors, leading_subspaces(weight, k)) for k in range(1, 7)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, rel=1e-12)
    left, right = reference.singular_pairs(weight.numpy())
    inside = left[:, :2].T @ dense(factors) @ right[:, :2]
    assert shares[1] == pytest.approx((inside**2).sum() / (dense(factors) ** 2).sum(), rel=1e-9)


@LAWS
@given(st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6))
def test_a_number_moved_between_the_factors_changes_nothing(number: float) -> None:
    moved = Factors(FACTORS.lora_A * number, FACTORS.lora_B / number)
    one, other = (dense(subspace(item, SOURCE, TARGET)) for item in (FACTORS, moved))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(one).max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_float64_whatever_the_dtype(dtype: torch.dtype) -> None:
    source, target, lora_A, lora_B = (part.to(dtype) for part in (SOURCE, TARGET, FACTORS.lora_A, FACTORS.lora_B))
    found = subspace(Factors(lora_A, lora_B), source, target)
    expected = subspace(Factors(lora_A.double(), lora_B.double()), source.double(), target.double())
    assert (found.lora_A.dtype, found.lora_B.dtype) == (torch.float64, torch.float64)
    np.testing.assert_array_equal(dense(found), dense(expected))


def test_the_zero_update_stays_zero() -> None:
    zero = Factors(torch.ones(2, 6), torch.zeros(5, 2))
    pair = leading_subspaces(SOURCE), leading_subspaces(TARGET)
    assert not dense(through_subspaces(zero, *pair)).any()
    assert (subspace_energy(zero, pair[0]), sign_variance(zero, *pair)) == (0.0, 0.0)


def test_what_does_not_fit_is_refused() -> None:
    cases = {
        "update of shape (5, 6): expected (8, 7), that of its weight": lambda: subspace(FACTORS, TARGET, SOURCE),
        "weight of shape (5,), k None: expected a matrix and k of at least 1": lambda: leading_subspaces(torch.ones(5)),
        "weight of shape (5, 6), k 0: expected a matrix and k of at least 1": lambda: leading_subspaces(SOURCE, 0),
    }
    for message, call in cases.items():
        with pytest.raises(ShapeError) as caught:
            call()
        assert caught.value.message == message


def test_subspaces_have_orthonormal_columns() -> None:
    found = leading_subspaces(TARGET.to(torch.bfloat16), 3)
    assert isinstance(found, Subspaces)
    for basis in (found.left, found.right):
        np.testing.assert_allclose(basis.T @ basis, torch.eye(3), rtol=0, atol=1e-13)
