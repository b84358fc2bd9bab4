"""Linear maps against least squares and dense decompositions of explicit rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import (
    DTYPES,
    dense,
    isometry,
    moments_of,
    random_factors,
    random_rows,
    related_rows,
)
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import (
    Direction,
    LinearMap,
    best_ridge,
    held_out_r2,
    identity,
    procrustes,
    read_directions,
    ridge,
)
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.solve import Caution, FitReport

LAWS = settings(max_examples=30, deadline=None)
SIDES = {Direction.X_TO_Y: (0, 1), Direction.Y_TO_X: (1, 0)}


def ordered(pair: tuple[torch.Tensor, torch.Tensor], direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows mapped from and those mapped to."""
    origin, goal = SIDES[direction]
    return pair[origin].double().numpy(), pair[goal].double().numpy()


def assert_map(found: LinearMap, matrix: np.ndarray, bias: np.ndarray, *, tolerance: float) -> None:
    assert (found.matrix.dtype, found.bias.dtype) == (torch.float64, torch.float64)
    np.testing.assert_allclose(found.matrix, matrix, rtol=0, atol=tolerance * np.abs(matrix).max())
    np.testing.assert_allclose(found.bias, bias, rtol=0, atol=tolerance * max(1.0, np.abs(matrix).max()) * 10)


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("penalty", [0.0, 1e-9, 1e-3, 0.1, 10.0])
def test_ridge_is_least_squares_with_the_penalty_as_rows(
    penalty: float, direction: Direction, centred: bool, per_feature: bool
) -> None:
    pair = related_rows(80, 6, 9)
    found = ridge(moments_of(*pair), penalty=penalty, direction=direction, centred=centred, per_feature=per_feature)
    matrix, bias = reference.ridge(*ordered(pair, direction), penalty, centred=centred, per_feature=per_feature)
    # Normal equations square the condition number, about 1e2 here: half of the digits and more are left.
    assert_map(found, matrix, bias, tolerance=1e-9)
    width = len(found.matrix.T)
    rank = width if penalty < 1e-8 * width else None  # it is looked for only where the penalty is too small to help
    assert found.report == FitReport(count=80, width=width, rank=rank, penalty=penalty, cautions=())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_are_fitted_in_float64_whatever_the_dtype(dtype: torch.dtype) -> None:
    x, y = (rows.to(dtype) for rows in related_rows(80, 4, 5))
    found = ridge(moments_of(x, y), penalty=0.01, direction="x-to-y")
    assert_map(found, *reference.ridge(x.double().numpy(), y.double().numpy(), 0.01), tolerance=1e-10)


@LAWS
@given(st.integers(1, 7), st.integers(0, 5), st.integers(0, 99), st.sampled_from([0.0, 1e-13]))
def test_ridge_without_a_penalty_recovers_an_isometry(width: int, wider: int, seed: int, penalty: float) -> None:
    """In both directions, the way back from a wider space included, where the rows leave directions undetermined."""
    turn = isometry(width + wider, width, seed=seed)
    x = random_rows(60, width, seed=seed)
    moments = moments_of(x, x @ turn.T + 2.0)
    there = ridge(moments, penalty=penalty, direction="x-to-y")
    back = ridge(moments, penalty=penalty, direction="y-to-x")
    # 60 normal rows: a condition number of at most about 10, squared by the normal equations.
    np.testing.assert_allclose(there.matrix, turn, rtol=0, atol=1e-10)
    np.testing.assert_allclose(there.bias, torch.full((width + wider,), 2.0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(back.matrix, turn.T, rtol=0, atol=1e-10)
    assert back.report is not None
    assert back.report.cautions == ((Caution.RANK_DEFICIENT,) if wider else ())
    assert held_out_r2(there, moments, direction="x-to-y") == pytest.approx(1.0, abs=1e-12)


@LAWS
@given(st.integers(1, 7), st.integers(0, 5), st.integers(0, 99), st.sampled_from([0.0, 0.25, 0.5]), st.booleans())
def test_procrustes_recovers_a_turn(width: int, wider: int, seed: int, whitening: float, scaled: bool) -> None:
    turn = isometry(width + wider, width, seed=seed)
    x = random_rows(60, width, seed=seed)
    moments = moments_of(x, x @ turn.T)
    options = {"whitening": whitening, "scaled": scaled, "penalty": 0.0}
    for direction, expected in ((Direction.X_TO_Y, turn), (Direction.Y_TO_X, turn.T)):
        found = procrustes(moments, direction=direction, **options)
        np.testing.assert_allclose(found.matrix, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.bias, torch.zeros(len(expected)), rtol=0, atol=1e-8)


@LAWS
@given(st.floats(0.01, 100.0), st.integers(0, 99))
def test_scaled_procrustes_recovers_a_turn_and_its_number(number: float, seed: int) -> None:
    turn = isometry(5, 5, seed=seed)
    x = random_rows(60, 5, seed=seed)
    moments = moments_of(x, number * x @ turn.T)
    plain, scaled = (procrustes(moments, direction="x-to-y", scaled=choice) for choice in (False, True))
    np.testing.assert_allclose(plain.matrix, turn, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scaled.matrix, number * turn, rtol=1e-9, atol=1e-9 * number)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("whitening", [0.0, 0.1, 0.25, 0.5])
def test_procrustes_is_that_of_explicit_rows(
    whitening: float, direction: Direction, centred: bool, scaled: bool
) -> None:
    pair = related_rows(80, 6, 9)
    found = procrustes(moments_of(*pair), whitening=whitening, direction=direction, centred=centred, scaled=scaled)
    matrix = reference.procrustes(*ordered(pair, direction), whitening=whitening, centred=centred, scaled=scaled)
    origin, goal = (rows.mean(axis=0) for rows in ordered(pair, direction))
    bias = goal - matrix @ origin if centred else np.zeros(len(goal))
    # Powers of second moments whose smallest eigenvalues are 1e-2 of the mean lose two digits and more.
    assert_map(found, matrix, bias, tolerance=1e-10)
    penalty = 1e-2 if whitening else 0.0
    assert found.report == FitReport(count=80, width=6, rank=6, penalty=penalty, cautions=())


def test_procrustes_turns_and_does_not_stretch() -> None:
    found = procrustes(moments_of(*related_rows(80, 6, 9)), direction="x-to-y").matrix
    np.testing.assert_allclose(found.T @ found, torch.eye(6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fit", [ridge, procrustes], ids=["ridge", "procrustes"])
@pytest.mark.parametrize("direction", Direction)
def test_a_space_is_mapped_onto_itself_by_the_identity(fit: object, direction: Direction) -> None:
    x = random_rows(60, 6)
    options = {"penalty": 0.0} if fit is ridge else {}
    found = fit(moments_of(x, x), direction=direction, **options)  # type: ignore[operator]
    same = identity(6)
    assert_map(found, same.matrix.numpy(), same.bias.numpy(), tolerance=1e-11)
    np.testing.assert_allclose(same.apply(x.float()), x.float().double(), rtol=0, atol=0)


def test_few_rows_are_said_and_give_the_solution_of_least_norm() -> None:
    pair = related_rows(5, 8, 3)
    found = ridge(moments_of(*pair), penalty=0.0, direction="x-to-y")
    matrix, bias = reference.ridge(*ordered(pair, Direction.X_TO_Y), 0.0)
    assert_map(found, matrix, bias, tolerance=1e-9)
    cautions = (Caution.FEW_ROWS, Caution.RANK_DEFICIENT)
    assert found.report == FitReport(count=5, width=8, rank=4, penalty=0.0, cautions=cautions)
    penalised = ridge(moments_of(*pair), penalty=0.1, direction="x-to-y")
    assert_map(penalised, *reference.ridge(*ordered(pair, Direction.X_TO_Y), 0.1), tolerance=1e-9)
    assert penalised.report == FitReport(count=5, width=8, rank=None, penalty=0.1, cautions=(Caution.FEW_ROWS,))


@pytest.mark.parametrize("penalty", [0.0, 1e-14, 1e-10, 1e-6, 1e-2])
@pytest.mark.parametrize("per_feature", [False, True])
def test_features_that_repeat_one_another_are_said_and_share(penalty: float, per_feature: bool) -> None:
    x, y = related_rows(50, 3, 4)
    doubled = torch.cat((x, x), dim=1)
    found = ridge(moments_of(doubled, y), penalty=penalty, direction="x-to-y", per_feature=per_feature)
    alone = ridge(moments_of(x, y), penalty=penalty / 2, direction="x-to-y", per_feature=per_feature)
    half = alone.matrix.numpy() / 2
    np.testing.assert_allclose(found.matrix, np.hstack((half, half)), rtol=0, atol=1e-7)
    assert found.report is not None
    lacking = (3, (Caution.RANK_DEFICIENT,))
    assert (found.report.rank, found.report.cautions) == (lacking if penalty < 6e-8 else (None, ()))


def test_procrustes_is_next_to_zero_where_the_pairs_say_nothing() -> None:
    x, y = related_rows(4, 6, 9)
    found = procrustes(moments_of(x, y), direction="x-to-y")
    cautions = (Caution.FEW_ROWS, Caution.RANK_DEFICIENT)
    assert found.report == FitReport(count=4, width=6, rank=3, penalty=0.0, cautions=cautions)
    values = np.linalg.svd(found.matrix.numpy(), compute_uv=False)
    np.testing.assert_allclose(values, [1, 1, 1, 0, 0, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("whitening", [0.0, 0.5])
def test_rows_that_do_not_move_give_the_zero_map(whitening: float) -> None:
    still, y = torch.ones(20, 3, dtype=torch.float64), random_rows(20, 4)
    for found in (
        ridge(moments_of(still, y), penalty=0.0, direction="x-to-y"),
        ridge(moments_of(still, y), penalty=0.1, direction="x-to-y", per_feature=True),
        procrustes(moments_of(still, y), direction="x-to-y", whitening=whitening, scaled=True),
    ):
        np.testing.assert_array_equal(found.matrix, torch.zeros(4, 3))
        np.testing.assert_allclose(found.bias, y.mean(0), rtol=0, atol=1e-15)
        assert found.report is not None
        assert (found.report.rank, found.report.cautions) == (0, (Caution.RANK_DEFICIENT,))


@LAWS
@given(st.floats(1e-3, 1e3), st.sampled_from([0.0, 0.01, 1.0]), st.integers(0, 20))
def test_a_penalty_per_feature_does_not_depend_on_the_units_of_features(
    number: float, penalty: float, seed: int
) -> None:
    x, y = related_rows(60, 4, 3, seed=seed)
    units = torch.tensor([1.0, number, 1.0, 1.0], dtype=torch.float64)
    plain = ridge(moments_of(x, y), penalty=penalty, direction="x-to-y", per_feature=True)
    other = ridge(moments_of(x * units, y), penalty=penalty, direction="x-to-y", per_feature=True)
    # The floor of the weights is 1e-6 of the mean second moment: units up to a thousandfold stay above it.
    np.testing.assert_allclose(other.matrix * units, plain.matrix, rtol=1e-6, atol=1e-8)


@LAWS
@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from(list(Direction)))
def test_held_out_r2_is_that_of_explicit_rows(rank: int, seed: int, direction: Direction) -> None:
    pair = related_rows(120, 6, 9, seed=seed)
    train, test = (tuple(rows[part] for rows in pair) for part in (slice(80), slice(80, None)))
    found = ridge(moments_of(*train), penalty=0.01, direction=direction)
    width = 9 if direction is Direction.X_TO_Y else 6
    directions = random_rows(rank, width, seed=seed)
    for seen, chosen in ((np.eye(width), None), (directions.numpy(), directions)):
        expected = reference.r2(*ordered(test, direction), found.matrix.numpy(), found.bias.numpy(), seen)
        assert held_out_r2(found, moments_of(*test), chosen, direction=direction) == pytest.approx(expected, abs=1e-9)


def test_held_out_r2_is_below_zero_where_the_mean_is_better_and_zero_where_nothing_moves() -> None:
    x, y = related_rows(40, 3, 3)
    moments = moments_of(x, y)
    wrong = LinearMap(matrix=torch.zeros(3, 3, dtype=torch.float64), bias=y.mean(0) + 10)
    assert held_out_r2(wrong, moments, direction="x-to-y") < 0
    mean = LinearMap(matrix=torch.zeros(3, 3, dtype=torch.float64), bias=y.mean(0))
    assert held_out_r2(mean, moments, direction="x-to-y") == pytest.approx(0.0, abs=1e-12)
    assert held_out_r2(mean, moments, torch.zeros(1, 3), direction="x-to-y") == 0.0


def test_the_best_of_several_penalties_is_the_one_that_predicts_best() -> None:
    x, y = related_rows(60, 20, 5)
    train, test = moments_of(x[:30], y[:30]), moments_of(x[30:], y[30:])
    penalties = [0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
    scores = [
        held_out_r2(ridge(train, penalty=penalty, direction="x-to-y"), test, direction="x-to-y")
        for penalty in penalties
    ]
    found, score = best_ridge(train, test, penalties=penalties, direction="x-to-y")
    assert score == max(scores)
    assert found.report is not None
    assert found.report.penalty == penalties[int(np.argmax(scores))]


@LAWS
@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_read_directions_measure_the_effect_of_an_update(rank: int, ins: int, outs: int, seed: int) -> None:
    factors = random_factors(rank, ins, outs, seed=seed)
    mixing = random_rows(rank, rank, seed=seed) + 3 * torch.eye(rank, dtype=torch.float64)
    same = Factors(torch.linalg.solve(mixing, factors.lora_A), factors.lora_B @ mixing)
    delta = dense(factors)
    for item in (factors, same):
        found = read_directions(item)
        assert found.shape == (min(rank, outs), ins)
        # Solving with the mixing loses what its condition number, up to about 1e3, takes.
        np.testing.assert_allclose(found.T @ found, delta.T @ delta, rtol=0, atol=1e-9 * np.abs(delta.T @ delta).max())


MOMENTS = moments_of(*related_rows(20, 3, 2))
MISTAKES = {
    "direction": (
        lambda: ridge(MOMENTS, penalty=0.0, direction="up"),
        "direction 'up': expected one of x-to-y, y-to-x",
    ),
    "no rows": (
        lambda: procrustes(PairMoments(3, 2), direction="x-to-y"),
        "moments of no rows: expected at least one pair of rows",
    ),
    "negative": (lambda: ridge(MOMENTS, penalty=-1.0, direction="x-to-y"), "penalty -1.0: expected a number from 0"),
    "nan": (
        lambda: procrustes(MOMENTS, penalty=float("nan"), direction="x-to-y"),
        "penalty nan: expected a number from 0",
    ),
    "whitening": (
        lambda: procrustes(MOMENTS, whitening=0.6, direction="x-to-y"),
        "whitening 0.6: expected a number from 0 to 0.5",
    ),
    "no penalty": (
        lambda: best_ridge(MOMENTS, MOMENTS, penalties=[], direction="x-to-y"),
        "penalties: expected at least one",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_fitted_is_refused(case: str) -> None:
    call, message = MISTAKES[case]
    with pytest.raises(NumericalError) as caught:
        call()
    assert caught.value.message == message


def test_a_map_or_directions_of_other_widths_are_refused() -> None:
    fitted = ridge(MOMENTS, penalty=0.1, direction="x-to-y")
    with pytest.raises(ShapeError) as caught:
        held_out_r2(fitted, MOMENTS, direction="y-to-x")
    assert caught.value.message == "map of shape (2, 3): expected (3, 2)"
    with pytest.raises(ShapeError) as caught:
        held_out_r2(fitted, MOMENTS, torch.ones(1, 3), direction="x-to-y")
    assert caught.value.message == "directions of shape (1, 3): expected (k, 2)"
