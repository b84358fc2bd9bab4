"""Reduced-rank ridge against explicit regression on rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import DTYPES, dense, random_factors, random_rows, related_rows
from ual_registry.errors import NumericalError, ShapeError, UALError
from ual_registry.projection.moments import Moments
from ual_registry.projection.residual import effect_r2, fit_effect, reduced_rank_ridge
from ual_registry.projection.solve import Caution, FitReport

LAWS = settings(max_examples=30, deadline=None)


def effect_of(x: torch.Tensor, wanted: torch.Tensor) -> Moments:
    found = Moments(x.shape[1], wanted.shape[1])
    found.update(x, wanted)
    return found


@pytest.mark.parametrize("rank", [1, 2, 5, 9])
@pytest.mark.parametrize("penalty", [0.0, 1e-9, 0.01, 1.0])
@pytest.mark.parametrize("widths", [(6, 8), (8, 6), (1, 3), (3, 1)], ids=str)
def test_it_is_reduced_rank_regression_with_the_penalty_as_rows(
    widths: tuple[int, int], penalty: float, rank: int
) -> None:
    x, wanted = related_rows(80, *widths)
    moments = effect_of(x, wanted)
    found = reduced_rank_ridge(moments.xx, moments.xd, penalty, rank)
    expected = reference.reduced_rank_ridge(x.numpy(), wanted.numpy(), penalty, rank)
    assert found.rank == min(rank, *widths)
    np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@LAWS
@given(st.integers(1, 4), st.sampled_from([0.01, 1.0]), st.integers(0, 99))
def test_no_other_update_of_the_rank_comes_closer(rank: int, penalty: float, seed: int) -> None:
    x, wanted = related_rows(40, 5, 6, seed=seed)
    found = fit_effect(effect_of(x, wanted), penalty=penalty, rank=rank).factors
    best = reference.objective(x.numpy(), wanted.numpy(), penalty, dense(found))
    for size in (1e-3, 1e-1, 1.0):
        step = random_factors(rank, 5, 6, seed=seed)
        moved = type(found)(found.lora_A + size * step.lora_A, found.lora_B + size * step.lora_B)
        assert reference.objective(x.numpy(), wanted.numpy(), penalty, dense(moved)) >= best


@LAWS
@given(st.integers(1, 4), st.integers(0, 99))
def test_an_effect_of_the_rank_is_recovered(rank: int, seed: int) -> None:
    x, true = random_rows(60, 7, seed=seed), random_factors(rank, 7, 5, seed=seed)
    moments = effect_of(x, x @ true.lora_A.T @ true.lora_B.T)
    found = fit_effect(moments, penalty=0.0, rank=rank)
    np.testing.assert_allclose(dense(found.factors), dense(true), rtol=0, atol=1e-9 * np.abs(dense(true)).max())
    assert found.r2 == pytest.approx(1.0, abs=1e-9)


@LAWS
@given(st.integers(0, 99), st.sampled_from([0.0, 0.01, 1.0]))
def test_more_rank_never_gives_less_of_the_effect(seed: int, penalty: float) -> None:
    x, wanted = related_rows(40, 5, 6, seed=seed)
    moments = effect_of(x, wanted)
    scores = [fit_effect(moments, penalty=penalty, rank=rank).r2 for rank in range(1, 7)]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(scores))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_r2_is_that_of_explicit_rows(rank: int) -> None:
    x, wanted = related_rows(60, 5, 6)
    fit = fit_effect(effect_of(x[:40], wanted[:40]), penalty=0.1, rank=rank)
    assert fit.report == FitReport(count=40, width=5, rank=None, penalty=0.1, cautions=())
    for part, found in (
        (slice(40), fit.r2),
        (slice(40, None), effect_r2(fit.factors, effect_of(x[40:], wanted[40:]))),
    ):
        wrong = x[part].numpy() @ dense(fit.factors).T - wanted[part].numpy()
        expected = 1 - (wrong**2).sum() / (wanted[part].numpy() ** 2).sum()
        assert found == pytest.approx(expected, abs=1e-10)


def test_few_rows_and_repeated_features_are_said_and_survived() -> None:
    x, wanted = related_rows(5, 8, 3)
    few = fit_effect(effect_of(x, wanted), penalty=0.0, rank=3)
    expected = reference.reduced_rank_ridge(x.numpy(), wanted.numpy(), 0.0, 3)
    np.testing.assert_allclose(dense(few.factors), expected, rtol=0, atol=1e-8)
    cautions = (Caution.FEW_ROWS, Caution.RANK_DEFICIENT)
    assert few.report == FitReport(count=5, width=8, rank=5, penalty=0.0, cautions=cautions)
    still = fit_effect(effect_of(torch.zeros(5, 8), wanted), penalty=0.1, rank=3)
    assert not dense(still.factors).any()
    assert (still.r2, still.report.cautions) == (0.0, cautions)


def test_where_nothing_is_wanted_nothing_is_fitted() -> None:
    found = fit_effect(effect_of(random_rows(20, 4), torch.zeros(20, 3)), penalty=0.1, rank=2)
    assert not dense(found.factors).any()
    assert found.r2 == 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_of_any_dtype_give_float64_and_balanced_factors(dtype: torch.dtype) -> None:
    moments = effect_of(*related_rows(30, 4, 3))
    xx, xd = moments.xx.to(dtype), moments.xd.to(dtype)
    found, expected = (reduced_rank_ridge(*pair, 0.1, 2) for pair in ((xx, xd), (xx.double(), xd.double())))
    assert (found.lora_A.dtype, found.lora_B.dtype) == (torch.float64, torch.float64)
    np.testing.assert_array_equal(dense(found), dense(expected))
    np.testing.assert_allclose((found.lora_B**2).sum(0), (found.lora_A**2).sum(1), rtol=1e-6)


XX, XD = torch.eye(3), torch.ones(3, 2)
MISTAKES: dict[str, tuple[tuple[object, ...], type[UALError], str]] = {
    "shapes": ((XX, XD.T, 0.1, 1), ShapeError, "xx of shape (3, 3), xd of shape (2, 3): expected (in, in), (in, out)"),
    "rank": ((XX, XD, 0.1, 0), ShapeError, "rank 0: expected at least 1"),
    "penalty": ((XX, XD, -0.1, 1), NumericalError, "penalty -0.1: expected a number from 0"),
    "nan": ((XX, XD * torch.nan, 0.1, 1), NumericalError, "second moments hold a number that is not finite"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_fitted_is_refused(case: str) -> None:
    arguments, kind, message = MISTAKES[case]
    with pytest.raises(kind) as caught:
        reduced_rank_ridge(*arguments)  # type: ignore[arg-type]
    assert caught.value.message == message


def test_an_effect_without_rows_or_of_another_shape_is_refused() -> None:
    with pytest.raises(NumericalError) as numerical:
        fit_effect(Moments(3, 2), penalty=0.1, rank=1)
    assert numerical.value.message == "moments of no rows: expected at least one row"
    with pytest.raises(ShapeError) as shape:
        effect_r2(random_factors(1, 2, 3), Moments(3, 2))
    assert shape.value.message == "update of shape (3, 2): expected (2, 3)"
