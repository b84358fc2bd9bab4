"""Sums and lower ranks against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import DTYPES, dense, random_factors
from ual_registry.errors import ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.recompress import energy_kept, recompress, stack

LAWS = settings(max_examples=40, deadline=None)
RANKS, SIZES, SEEDS = st.integers(1, 7), st.integers(1, 10), st.integers(0, 99)


def best_of_rank(matrix: np.ndarray, rank: int) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]


@LAWS
@given(RANKS, SIZES, SIZES, SEEDS, RANKS)
def test_recompressing_is_the_best_approximation_of_the_rank(
    rank: int, ins: int, outs: int, seed: int, wanted: int
) -> None:
    factors = random_factors(rank, ins, outs, seed=seed)
    found = recompress(factors, wanted)
    matrix = dense(factors)
    assert found.rank == min(wanted, rank, ins, outs)
    # Singular values of normal numbers are apart; what is cut is stable to rounding over the gap.
    size = np.linalg.norm(matrix)
    np.testing.assert_allclose(
        np.linalg.norm(dense(found) - matrix), np.linalg.norm(best_of_rank(matrix, wanted) - matrix), atol=1e-9 * size
    )
    share = np.linalg.norm(best_of_rank(matrix, wanted)) ** 2 / size**2
    assert energy_kept(factors, wanted) == pytest.approx(share, rel=1e-9)


@LAWS
@given(RANKS, SIZES, SIZES, SEEDS)
def test_recompressed_factors_are_balanced(rank: int, ins: int, outs: int, seed: int) -> None:
    found = recompress(random_factors(rank, ins, outs, seed=seed), rank)
    left, right = found.lora_B.T @ found.lora_B, found.lora_A @ found.lora_A.T
    # The quick way to decompose is taken where its vectors are orthonormal to 1e-8.
    scale = float(left.diagonal().max())
    np.testing.assert_allclose(left, torch.diag(left.diagonal()), rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-6 * scale)


@LAWS
@given(RANKS, SIZES, SIZES, SEEDS)
def test_more_rank_never_loses_more(rank: int, ins: int, outs: int, seed: int) -> None:
    factors = random_factors(rank, ins, outs, seed=seed)
    kept = [energy_kept(factors, wanted) for wanted in range(1, rank + 2)]
    assert kept == sorted(kept)
    assert kept[-1] == pytest.approx(1.0, rel=1e-12)
    assert kept[-1] <= 1.0


@LAWS
@given(RANKS, SIZES, SIZES, SEEDS, st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6))
def test_a_number_moved_between_the_factors_changes_nothing(
    rank: int, ins: int, outs: int, seed: int, number: float
) -> None:
    factors = random_factors(rank, ins, outs, seed=seed)
    moved = Factors(factors.lora_A * number, factors.lora_B / number)
    one, other = dense(recompress(factors, rank)), dense(recompress(moved, rank))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(one).max())


@LAWS
@given(st.lists(RANKS, min_size=1, max_size=4), SIZES, SIZES)
def test_stacked_updates_are_their_sum(ranks: list[int], ins: int, outs: int) -> None:
    updates = [random_factors(rank, ins, outs, seed=seed) for seed, rank in enumerate(ranks)]
    found = stack(updates)
    assert found.rank == sum(ranks)
    np.testing.assert_allclose(dense(found), sum(map(dense, updates)), rtol=0, atol=1e-12 * sum(ranks))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_float64_whatever_the_dtype(dtype: torch.dtype) -> None:
    own = random_factors(3, 6, 5)
    own = Factors(own.lora_A.to(dtype), own.lora_B.to(dtype))
    for found, expected in ((recompress(own, 3), dense(own)), (stack([own, own]), 2 * dense(own))):
        assert (found.lora_A.dtype, found.lora_B.dtype) == (torch.float64, torch.float64)
        np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-12)


def test_the_zero_update_stays_zero_and_loses_nothing() -> None:
    zero = Factors(torch.ones(2, 4), torch.zeros(3, 2))
    assert not dense(recompress(zero, 1)).any()
    assert energy_kept(zero, 1) == 1.0


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_energy_does_not_depend_on_the_size_of_the_update(scale: float) -> None:
    factors = random_factors(3, 6, 5)
    assert energy_kept(factors.scaled(scale), 1) == pytest.approx(energy_kept(factors, 1), rel=1e-9)


def test_what_cannot_be_summed_or_cut_is_refused() -> None:
    one, other = random_factors(2, 4, 3), random_factors(2, 3, 4)
    cases = {
        "a sum of updates: expected updates of one shape, got (3, 4), (4, 3)": lambda: stack([one, other]),
        "a sum of updates: expected updates of one shape, got none": lambda: stack([]),
        "rank 0: expected at least 1": lambda: recompress(one, 0),
        "rank -1: expected at least 1": lambda: energy_kept(one, -1),
    }
    for message, call in cases.items():
        with pytest.raises(ShapeError) as caught:
            call()
        assert caught.value.message == message
