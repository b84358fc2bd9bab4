"""The projection methods against dense references in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import projection as reference
from ual_registry.errors import NumericalError
from ual_registry.projection.factors import Factors, balance, effective_rank, inner, norm, singular_factors
from ual_registry.projection.interpolate import interpolate, resample_features
from ual_registry.projection.methods import SHAPE_METHODS, Projection, project
from ual_registry.projection.svd import svd, width_scale
from ual_registry.projection.truncate import resize_features, truncate


def random_factors(rank: int, ins: int, outs: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Factors:
    """Return factors of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    lora_A = torch.randn(rank, ins, generator=generator, dtype=torch.float64)
    lora_B = torch.randn(outs, rank, generator=generator, dtype=torch.float64)
    return Factors(lora_A.to(dtype), lora_B.to(dtype))


def ill_conditioned(decades: float) -> Factors:
    """Return factors whose columns differ in length by powers of ten."""
    found = random_factors(4, 20, 30)
    scale = 10.0 ** torch.linspace(0, -decades, 4, dtype=torch.float64)
    return Factors(found.lora_A * scale[:, None], found.lora_B * scale)


def deficient() -> Factors:
    """Return factors of rank 4 whose product has rank 2."""
    found = random_factors(4, 20, 30)
    lora_B = found.lora_B.clone()
    lora_B[:, 2:] = lora_B[:, :2]
    return Factors(found.lora_A, lora_B)


FACTORS = {
    "plain": random_factors(4, 20, 30),
    "square": random_factors(8, 16, 16, seed=1),
    "rank 1": random_factors(1, 7, 5, seed=2),
    "one feature": random_factors(1, 1, 1, seed=3),
    "rank greater than in": random_factors(6, 3, 20, seed=4),
    "rank greater than out": random_factors(6, 20, 3, seed=5),
    "rank greater than both": random_factors(9, 3, 4, seed=6),
    "condition 1e3": ill_conditioned(3),
    "condition 1e7": ill_conditioned(7),
    "condition 1e12": ill_conditioned(12),
    "deficient": deficient(),
    "zero B": Factors(random_factors(4, 20, 30).lora_A, torch.zeros(30, 4, dtype=torch.float64)),
    "zero": Factors(torch.zeros(4, 20, dtype=torch.float64), torch.zeros(30, 4, dtype=torch.float64)),
    "large": random_factors(4, 20, 30).scaled(1e30),
    "small": random_factors(4, 20, 30).scaled(1e-30),
}

TOLERANCES = {
    # A sum of at most a few dozen products loses a few bits: 1e3 times the unit roundoff, relative to the norm.
    torch.float64: 1e3 * torch.finfo(torch.float64).eps,
    torch.float32: 1e3 * torch.finfo(torch.float32).eps,
}


def dense(factors: Factors) -> np.ndarray:
    return reference.delta(factors.lora_A, factors.lora_B)


def assert_close(actual: np.ndarray, expected: np.ndarray, *, scale: float, dtype: torch.dtype) -> None:
    """Compare in the norm, relative to ``scale``; see TOLERANCES."""
    assert actual.shape == expected.shape
    assert reference.norm(actual - expected) <= TOLERANCES[dtype] * scale


@pytest.fixture(params=FACTORS)
def factors(request: pytest.FixtureRequest) -> Factors:
    return FACTORS[request.param]


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def cast(factors: Factors, dtype: torch.dtype) -> Factors:
    return Factors(factors.lora_A.to(dtype), factors.lora_B.to(dtype))


def test_the_shape_of_an_update_is_that_of_its_factors() -> None:
    found = FACTORS["plain"]
    assert (found.rank, found.in_features, found.out_features) == (4, 20, 30)
    np.testing.assert_array_equal(dense(found.scaled(2.0)), 2 * dense(found))


def test_singular_factors_are_those_of_the_dense_product(factors: Factors, dtype: torch.dtype) -> None:
    own = cast(factors, dtype)
    found = singular_factors(own)
    matrix = dense(own)
    count = min(own.rank, *matrix.shape)
    expected = np.linalg.svd(matrix, compute_uv=False)[:count]

    assert (found.left.dtype, found.values.dtype, found.right.dtype) == (dtype, dtype, dtype)
    assert tuple(found.left.shape) == (own.out_features, count)
    assert tuple(found.right.shape) == (count, own.in_features)
    values = found.values.double().numpy()
    # Singular values are stable: their error is bounded by that of the matrix, relative to the largest one. The
    # product of the norms is what rounding is relative to where the product itself cancels.
    scale = norm_product(own)
    assert np.abs(values - expected).max(initial=0.0) <= TOLERANCES[dtype] * scale
    assert (np.diff(values) <= 0).all()
    assert (values >= 0).all()
    again = found.left.double() * found.values.double() @ found.right.double()
    assert_close(again.numpy(), matrix, scale=scale, dtype=dtype)


def norm_product(factors: Factors) -> float:
    return float(factors.lora_A.double().norm() * factors.lora_B.double().norm())


def test_singular_vectors_are_orthonormal(factors: Factors, dtype: torch.dtype) -> None:
    """Householder keeps this to rounding; the Gram path is only taken where its error stays below 1e-8."""
    found = singular_factors(cast(factors, dtype))
    tolerance = max(TOLERANCES[dtype], 1e-7 if dtype is torch.float64 else 0.0)
    for gram in (found.left.T @ found.left, found.right @ found.right.T):
        assert float((gram - torch.eye(len(gram), dtype=dtype)).abs().max()) <= tolerance


def test_leading_singular_factors_are_the_first_of_all(factors: Factors) -> None:
    whole, leading = singular_factors(factors), singular_factors(factors, 2)
    np.testing.assert_array_equal(leading.values, whole.values[:2])
    scale = norm_product(factors)
    best = whole.left[:, :2] * whole.values[:2] @ whole.right[:2]
    found = leading.left * leading.values @ leading.right
    assert_close(found.numpy(), best.numpy(), scale=scale, dtype=torch.float64)


def test_both_ways_to_decompose_are_taken() -> None:
    from ual_registry.projection.factors import _gram_cores

    taken = {name: _gram_cores(factors) is not None for name, factors in FACTORS.items()}
    assert taken == {
        "plain": True,
        "square": True,
        "rank 1": True,
        "one feature": True,
        "rank greater than in": False,
        "rank greater than out": False,
        "rank greater than both": False,
        "condition 1e3": True,
        "condition 1e7": False,
        "condition 1e12": False,
        "deficient": False,
        "zero B": False,
        "zero": False,
        "large": True,
        "small": True,
    }
    assert _gram_cores(cast(FACTORS["plain"], torch.float32)) is None


def test_balanced_factors_share_the_singular_values(factors: Factors) -> None:
    found = singular_factors(factors)
    balanced = balance(factors)
    assert_close(dense(balanced), dense(factors), scale=norm_product(factors), dtype=torch.float64)
    left = (balanced.lora_B**2).sum(0)
    right = (balanced.lora_A**2).sum(1)
    # Orthonormal to 1e-7 (above), so each side has the singular value as its squared length, to that.
    np.testing.assert_allclose(left, found.values, rtol=1e-6)
    np.testing.assert_allclose(right, found.values, rtol=1e-6)


SHAPES = [(20, 30), (12, 9), (40, 50), (40, 9), (12, 50), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", SHAPE_METHODS)
def test_a_fitted_update_is_that_of_the_dense_reference(
    factors: Factors, dtype: torch.dtype, method: str, shape: tuple[int, int]
) -> None:
    own = cast(factors, dtype)
    fitted = SHAPE_METHODS[method].fit(own, *shape)
    matrix = dense(own)
    expected = reference.fit(method, matrix, own.rank, *shape)

    assert (fitted.lora_A.dtype, fitted.lora_B.dtype) == (dtype, dtype)
    assert (fitted.in_features, fitted.out_features) == shape
    assert fitted.rank == (min(own.rank, *matrix.shape) if method == "svd" else own.rank)
    # What is left after cutting can be far smaller than what was there, and restoring its norm amplifies rounding.
    amplified = reference.norm(matrix) / max(reference.norm(reference.resample_axes(matrix, *shape)), 1e-300)
    scale = norm_product(own) * (max(1.0, amplified) if method == "interpolate" else 1.0)
    widened = max(1.0, width_scale(own, *shape)) if method == "svd" else 1.0
    assert_close(dense(fitted), expected, scale=scale * widened, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_svd_is_truncate_times_a_number(factors: Factors, shape: tuple[int, int]) -> None:
    """The identity that makes the two one method: 0/1 selections commute with the decomposition."""
    number = ((factors.in_features * factors.out_features) / (shape[0] * shape[1])) ** 0.25
    assert width_scale(factors, *shape) == pytest.approx(number, rel=1e-15)
    assert_close(
        dense(svd(factors, *shape)),
        number * dense(truncate(factors, *shape)),
        scale=norm_product(factors) * max(number, 1.0),
        dtype=torch.float64,
    )


@pytest.mark.parametrize("method", SHAPE_METHODS)
def test_what_is_measured_is_what_the_dense_reference_measures(factors: Factors, method: str) -> None:
    for shape in SHAPES:
        found = project(factors, method, *shape)
        matrix = dense(factors)
        expected = reference.fit(method, matrix, factors.rank, *shape)
        before, after = reference.norm(matrix), reference.norm(expected)
        assert isinstance(found, Projection)
        # Rank-deficient and ill-conditioned products lose digits before they are measured: 1e-6 of the ratio.
        assert found.norm_ratio == pytest.approx(after / before if before else 0.0, rel=1e-6)
        assert found.energy_kept == pytest.approx(reference.energy_kept(method, matrix, expected), abs=1e-6)
        assert 0.0 <= found.energy_kept <= 1.0
        values = np.linalg.svd(expected, compute_uv=False)
        assert found.effective_rank == pytest.approx(reference.effective_rank(values), rel=1e-5)


def test_inner_and_norm_are_those_of_the_dense_products(factors: Factors, dtype: torch.dtype) -> None:
    own = cast(factors, dtype)
    other = Factors(own.lora_A.flip(1), own.lora_B * 0.5 + 1.0 * float(own.lora_B.abs().max()))
    tolerance = TOLERANCES[torch.float64]  # both sum in float64, whatever the factors are stored in
    scale = norm_product(own)
    assert abs(inner(own, other) - reference.inner(dense(own), dense(other))) <= tolerance * scale * norm_product(other)
    # The square carries the rounding, so a norm that cancels has only half of the digits.
    assert abs(norm(own) ** 2 - reference.norm(dense(own)) ** 2) <= tolerance * scale**2


def test_a_norm_that_rounds_below_zero_is_zero() -> None:
    cancelling = Factors(torch.ones(2, 3), torch.tensor([[1.0, -1.0]] * 2))
    assert norm(cancelling) == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([0.0, 0.0], 0.0),
        ([5.0], 1.0),
        ([5.0, 0.0], 1.0),
        ([1.0, 1.0, 1.0], 3.0),
        ([3.0, 1.0], math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))),
    ],
)
def test_the_effective_rank_is_the_exponential_of_the_entropy(values: list[float], expected: float) -> None:
    # Logarithms of doubles: a few units in the last place.
    assert effective_rank(torch.tensor(values, dtype=torch.float64)) == pytest.approx(expected, rel=1e-14)


def test_features_are_cut_or_padded_with_zeros() -> None:
    matrix = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert resize_features(matrix, 2).tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert resize_features(matrix, 3).tolist() == matrix.tolist()
    assert resize_features(matrix, 5).tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0], [4.0, 5.0, 6.0, 0.0, 0.0]]


def test_features_are_resampled_at_half_pixel_centres() -> None:
    matrix = torch.tensor([[0.0, 4.0]], dtype=torch.float64)
    assert resample_features(matrix, 4).tolist() == [[0.0, 1.0, 3.0, 4.0]]
    assert resample_features(matrix, 1).tolist() == [[2.0]]
    assert resample_features(matrix, 2).tolist() == [[0.0, 4.0]]


@pytest.mark.parametrize("widths", [(5, 8), (8, 5), (3, 3), (1, 4), (4, 1), (2, 7)])
def test_resampling_is_that_of_the_reference(widths: tuple[int, int]) -> None:
    vector = torch.randn(widths[0], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = resample_features(vector[None], widths[1])[0]
    # Weights are quotients of small integers; a few units in the last place.
    np.testing.assert_allclose(found, reference.resample(vector.numpy(), widths[1]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("widths", [(5, 8), (8, 5), (3, 3), (1, 4), (4, 1), (2, 7)])
def test_resampling_rows_is_resampling_columns_of_the_transposed_matrix(widths: tuple[int, int]) -> None:
    matrix = torch.randn(widths[0], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = resample_features(matrix, widths[1], 0)
    # A few units in the last place: both add the same two products.
    np.testing.assert_allclose(found, resample_features(matrix.T.contiguous(), widths[1]).T, rtol=0, atol=1e-14)


def test_rows_are_cut_or_padded_with_zeros() -> None:
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert resize_features(matrix, 1, 0).tolist() == [[1.0, 2.0]]
    assert resize_features(matrix, 2, 0) is matrix
    assert resize_features(matrix, 3, 0).tolist() == [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.3, -0.5, -3.0, 0.0])
@pytest.mark.parametrize("method", SHAPE_METHODS)
def test_a_number_beside_the_update_is_as_good_as_one_within(factors: Factors, method: str, scale: float) -> None:
    within = factors.scaled(scale)
    for shape in SHAPES:
        beside, folded = project(factors, method, *shape, scale=scale), project(within, method, *shape)
        fitted = reference.fit(method, dense(within), within.rank, *shape)
        size = reference.norm(fitted) if method == "interpolate" else 2 * norm_product(within)
        # As for both against the dense reference: what cancels has fewer digits, and restoring a norm amplifies them.
        assert reference.norm(dense(beside.factors) - dense(folded.factors)) <= 1e-6 * size
        assert (beside.energy_kept, beside.norm_ratio, beside.effective_rank, beside.size) == pytest.approx(
            (folded.energy_kept, folded.norm_ratio, folded.effective_rank, norm(within)), rel=1e-5, abs=1e-6
        )


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.3, -0.7])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_only_cut_are_rounded_once(stored: torch.dtype, scale: float) -> None:
    own = cast(random_factors(4, 20, 30), stored)
    found = project(own, "truncate", 12, 40, scale=scale).factors
    exact = own.lora_B.double() * scale
    assert found.lora_A.dtype is stored
    assert torch.equal(found.lora_A, own.lora_A[:, :12])
    assert torch.equal(found.lora_B.to(stored), torch.cat([exact, exact.new_zeros(10, 4)]).to(stored))


@pytest.mark.parametrize("method", SHAPE_METHODS)
def test_what_is_measured_of_stored_numbers_is_measured_in_float64(method: str) -> None:
    own = cast(FACTORS["plain"], torch.float32)
    found, exact = project(own, method, 12, 9), project(cast(own, torch.float64), method, 12, 9)
    assert replace(found, factors=own) == replace(exact, factors=own)
    # The numbers that are only copied keep their dtype; all others are those of float64.
    assert torch.equal(found.factors.lora_A.double(), exact.factors.lora_A)
    assert torch.equal(found.factors.lora_B.double(), exact.factors.lora_B)


def test_an_update_whose_norm_is_not_finite_is_refused() -> None:
    with pytest.raises(NumericalError) as caught:
        project(FACTORS["plain"].scaled(1e200), "svd", 12, 9)
    assert caught.value.message == "its norm does not fit float64"


def test_the_zero_update_stays_zero_and_measures_zero() -> None:
    for method in SHAPE_METHODS:
        found = project(FACTORS["zero"], method, 12, 9)
        assert dense(found.factors).tolist() == np.zeros((9, 12)).tolist()
        assert (found.energy_kept, found.norm_ratio, found.effective_rank) == (0.0, 0.0, 0.0)


def test_an_update_that_is_cut_away_whole_measures_zero() -> None:
    lora_A = torch.zeros(1, 4, dtype=torch.float64)
    lora_A[0, 3] = 1.0
    factors = Factors(lora_A, torch.ones(4, 1, dtype=torch.float64))
    for method in ("svd", "truncate"):
        found = project(factors, method, 3, 3)
        assert (found.energy_kept, found.norm_ratio, found.effective_rank) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-150, 1e-90, 1e-30, 1e30, 1e90])
@pytest.mark.parametrize("method", SHAPE_METHODS)
def test_measures_do_not_depend_on_the_size_of_the_update(method: str, scale: float) -> None:
    """Down to where squares leave the range of doubles, both ways."""
    one, other = project(FACTORS["plain"], method, 12, 9), project(FACTORS["plain"].scaled(scale), method, 12, 9)
    assert (one.energy_kept, one.norm_ratio, one.effective_rank) == pytest.approx(
        (other.energy_kept, other.norm_ratio, other.effective_rank), rel=1e-9
    )


def test_every_method_says_what_it_is() -> None:
    assert {name: (method.name, method.reference, method.summary) for name, method in SHAPE_METHODS.items()} == {
        "svd": (
            "svd",
            "ual-adapter 0.1, 'SVD projection'",
            "cut or pad the singular vectors, scale for the width (control-grade)",
        ),
        "truncate": ("truncate", "ual-adapter 0.1, 'truncate projection'", "cut or pad features (control-grade)"),
        "interpolate": (
            "interpolate",
            "ual-adapter 0.1, 'interpolate projection', norm restored",
            "resample features linearly, norm restored (control-grade)",
        ),
    }


SIZES = st.integers(1, 12)
LAWS = settings(max_examples=30)


@LAWS
@given(st.integers(1, 6), SIZES, SIZES, st.integers(0, 99), st.sampled_from(sorted(SHAPE_METHODS)))
def test_the_same_shape_at_full_rank_is_the_identity(rank: int, ins: int, outs: int, seed: int, method: str) -> None:
    factors = random_factors(rank, ins, outs, seed=seed)
    found = project(factors, method, ins, outs)
    assert_close(dense(found.factors), dense(factors), scale=norm_product(factors), dtype=torch.float64)
    # The cosine of a matrix with itself; squares of norms of at most 12 x 12 numbers.
    assert (found.energy_kept, found.norm_ratio) == pytest.approx((1.0, 1.0), rel=1e-9)


NUMBERS = st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6)


@LAWS
@given(
    st.integers(1, 6), st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), NUMBERS, st.sampled_from(sorted(SHAPE_METHODS))
)
def test_a_number_moved_between_the_factors_changes_nothing(
    rank: int, source: tuple[int, int], shape: tuple[int, int], number: float, method: str
) -> None:
    factors = random_factors(rank, *source)
    moved = Factors(factors.lora_A * number, factors.lora_B / number)
    found, other = (SHAPE_METHODS[method].fit(item, *shape) for item in (factors, moved))
    raw = reference.norm(reference.resample_axes(dense(factors), *shape))
    amplified = norm(factors) / raw if method == "interpolate" else width_scale(factors, *shape)
    # Multiplying and dividing by the number rounds once each.
    scale = norm_product(factors) * max(1.0, amplified)
    assert_close(dense(found), dense(other), scale=scale, dtype=torch.float64)


def test_interpolating_to_a_width_that_is_there_changes_nothing(factors: Factors) -> None:
    width, height = factors.in_features, factors.out_features
    assert interpolate(factors, width, height) is factors
    assert resample_features(factors.lora_A, width) is factors.lora_A


@LAWS
@given(st.integers(1, 6), SIZES, SIZES, SIZES, SIZES)
def test_interpolate_restores_the_norm(rank: int, ins: int, outs: int, to_ins: int, to_outs: int) -> None:
    factors = random_factors(rank, ins, outs)
    raw = reference.norm(reference.resample_axes(dense(factors), to_ins, to_outs))
    amplified = norm_product(factors) / raw
    # Rounding of the resampled update is amplified by what restores its norm.
    assert norm(interpolate(factors, to_ins, to_outs)) == pytest.approx(norm(factors), rel=1e-12 * max(1, amplified))
