"""Updates carried through maps against explicit rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import (
    DTYPES,
    dense,
    isometry,
    moments_of,
    random_factors,
    random_rows,
    related_rows,
)
from ual_registry.errors import NumericalError, ShapeError, UALError
from ual_registry.projection.aligned import Norm, fit_aligned
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import LinearMap, identity, procrustes, ridge
from ual_registry.projection.moments import PairMoments

LAWS = settings(max_examples=30, deadline=None)
INPUTS, OUTPUTS = related_rows(100, 6, 8, seed=1), related_rows(100, 5, 7, seed=2)
READ = ridge(moments_of(*INPUTS), penalty=0.1, direction="y-to-x")
WRITE = ridge(moments_of(*OUTPUTS), penalty=0.1, direction="x-to-y")
FACTORS = random_factors(3, 6, 5)


def carry(factors: Factors = FACTORS, norm: Norm | str = Norm.KEEP) -> np.ndarray:
    """Carry an update through the maps above, dense."""
    inputs, outputs = moments_of(*INPUTS), moments_of(*OUTPUTS)
    return dense(fit_aligned(factors, READ, WRITE, norm=norm, inputs=inputs, outputs=outputs))


def mapped() -> np.ndarray:
    return WRITE.matrix.numpy() @ dense(FACTORS) @ READ.matrix.numpy()


def test_an_update_reads_through_one_map_and_writes_through_the_other() -> None:
    np.testing.assert_allclose(carry(), mapped(), rtol=0, atol=1e-12)


def test_its_norm_is_restored_by_default() -> None:
    expected = mapped() * np.linalg.norm(dense(FACTORS)) / np.linalg.norm(mapped())
    np.testing.assert_allclose(dense(fit_aligned(FACTORS, READ, WRITE)), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(carry(norm="restore"), expected, rtol=0, atol=1e-12)


def test_the_functional_norm_is_the_best_number_on_the_rows() -> None:
    there = (INPUTS[1].numpy() @ mapped().T).ravel()
    wanted = (INPUTS[0].numpy() @ dense(FACTORS).T @ WRITE.matrix.numpy().T).ravel()
    number = np.linalg.lstsq(there[:, None], wanted, rcond=None)[0][0]
    np.testing.assert_allclose(carry(norm="functional"), number * mapped(), rtol=0, atol=1e-11)


def test_the_effect_norm_keeps_the_share_of_the_output() -> None:
    found = carry(norm="effect")
    source = np.linalg.norm(INPUTS[0].numpy() @ dense(FACTORS).T) / np.linalg.norm(OUTPUTS[0].numpy())
    target = np.linalg.norm(INPUTS[1].numpy() @ found.T) / np.linalg.norm(OUTPUTS[1].numpy())
    assert target == pytest.approx(source, rel=1e-10)
    cosine = (found * mapped()).sum() / np.linalg.norm(found) / np.linalg.norm(mapped())
    assert cosine == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("kind", ["identity", "ridge", "procrustes"])
def test_a_module_to_itself_is_the_identity(kind: str, norm: Norm) -> None:
    x, y = random_rows(80, 6), random_rows(80, 5, seed=1)
    inputs, outputs = moments_of(x, x), moments_of(y, y)
    if kind == "identity":
        read, write = identity(6), identity(5)
    elif kind == "ridge":
        read = ridge(inputs, penalty=0.0, direction="y-to-x")
        write = ridge(outputs, penalty=0.0, direction="x-to-y")
    else:
        read, write = procrustes(inputs, direction="y-to-x"), procrustes(outputs, direction="x-to-y")
    found = fit_aligned(FACTORS, read, write, norm=norm, inputs=inputs, outputs=outputs)
    # Normal equations of 80 normal rows.
    np.testing.assert_allclose(dense(found), dense(FACTORS), rtol=0, atol=1e-11)


@LAWS
@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 99), st.sampled_from(["ridge", "procrustes"]))
def test_a_module_in_a_turned_basis_gets_the_turned_update(rank: int, wider: int, seed: int, kind: str) -> None:
    """The known ground truth: what x + delta does in one basis, the result does in the other."""
    turn_in, turn_out = isometry(6 + wider, 6, seed=seed), isometry(5 + wider, 5, seed=seed + 1)
    x, y = random_rows(80, 6, seed=seed), random_rows(80, 5, seed=seed + 2)
    inputs, outputs = moments_of(x, x @ turn_in.T), moments_of(y, y @ turn_out.T)
    factors = random_factors(rank, 6, 5, seed=seed)
    options = {"penalty": 0.0} if kind == "ridge" else {}
    fit = ridge if kind == "ridge" else procrustes
    read, write = (
        fit(moments, direction=direction, **options)  # type: ignore[operator]
        for moments, direction in ((inputs, "y-to-x"), (outputs, "x-to-y"))
    )
    found = fit_aligned(factors, read, write, norm="keep")
    np.testing.assert_allclose(dense(found), turn_out.numpy() @ dense(factors) @ turn_in.numpy().T, rtol=0, atol=1e-9)


def test_with_the_write_map_given_ridge_is_the_least_squares_match_of_effects() -> None:
    """Of all updates none comes closer, on the rows, to the source's effect as the write map takes it over."""
    x_s, x_t = (rows - rows.mean(0) for rows in INPUTS)
    read = ridge(moments_of(*INPUTS), penalty=0.0, direction="y-to-x")
    found = dense(fit_aligned(FACTORS, read, WRITE, norm="keep"))
    wanted = x_s.numpy() @ dense(FACTORS).T @ WRITE.matrix.numpy().T
    best = np.linalg.lstsq(x_t.numpy(), wanted, rcond=None)[0].T
    np.testing.assert_allclose(found, best, rtol=0, atol=1e-10)


@LAWS
@given(st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6), st.sampled_from(list(Norm)))
def test_a_number_moved_between_the_factors_changes_nothing(number: float, norm: Norm) -> None:
    moved = Factors(FACTORS.lora_A * number, FACTORS.lora_B / number)
    expected = carry(norm=norm)
    np.testing.assert_allclose(carry(moved, norm), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@LAWS
@given(st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3), st.sampled_from(list(Norm)))
def test_a_stronger_update_gives_as_much_stronger_a_result(number: float, norm: Norm) -> None:
    expected = number * carry(norm=norm)
    found = carry(FACTORS.scaled(number), norm)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("norm", Norm)
def test_the_zero_update_stays_zero(norm: Norm) -> None:
    assert not carry(Factors(torch.ones(2, 6), torch.zeros(5, 2)), norm).any()


@pytest.mark.parametrize("norm", Norm)
def test_what_the_maps_do_not_carry_is_zero(norm: Norm) -> None:
    nothing = LinearMap(matrix=torch.zeros(6, 8, dtype=torch.float64), bias=torch.zeros(6, dtype=torch.float64))
    inputs, outputs = moments_of(*INPUTS), moments_of(*OUTPUTS)
    assert not dense(fit_aligned(FACTORS, nothing, WRITE, norm=norm, inputs=inputs, outputs=outputs)).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_float64_and_balanced_whatever_the_dtype(dtype: torch.dtype) -> None:
    own = Factors(FACTORS.lora_A.to(dtype), FACTORS.lora_B.to(dtype))
    found = fit_aligned(own, READ, WRITE, norm="keep")
    assert (found.lora_A.dtype, found.lora_B.dtype, found.rank) == (torch.float64, torch.float64, 3)
    expected = WRITE.matrix.numpy() @ dense(own) @ READ.matrix.numpy()
    np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose((found.lora_B**2).sum(0), (found.lora_A**2).sum(1), rtol=1e-6)


def test_a_rank_that_the_target_has_no_room_for_is_cut_without_loss() -> None:
    read = LinearMap(matrix=random_rows(6, 2), bias=torch.zeros(6, dtype=torch.float64))
    found = fit_aligned(FACTORS, read, WRITE, norm="keep")
    assert (found.rank, found.in_features, found.out_features) == (2, 2, 7)
    expected = WRITE.matrix.numpy() @ dense(FACTORS) @ read.matrix.numpy()
    np.testing.assert_allclose(dense(found), expected, rtol=0, atol=1e-11)


EMPTY = PairMoments(6, 8)
MISTAKES: dict[str, tuple[dict[str, object], type[UALError], str]] = {
    "norm": ({"norm": "long"}, NumericalError, "norm 'long': expected one of keep, restore, functional, effect"),
    "inputs": (
        {"norm": "functional"},
        NumericalError,
        "norm 'functional': expected inputs, moments of at least one pair of rows",
    ),
    "empty inputs": (
        {"norm": "functional", "inputs": EMPTY},
        NumericalError,
        "norm 'functional': expected inputs, moments of at least one pair of rows",
    ),
    "outputs": (
        {"norm": "effect", "inputs": moments_of(*INPUTS)},
        NumericalError,
        "norm 'effect': expected outputs, moments of at least one pair of rows",
    ),
    "widths": (
        {"norm": "effect", "inputs": moments_of(*INPUTS), "outputs": moments_of(*INPUTS)},
        ShapeError,
        "outputs of widths (6, 8): expected (5, 7)",
    ),
    "maps": (
        {"write": identity(6)},
        ShapeError,
        "update of shape (5, 6): the maps take updates of shape (6, 6)",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_carried_is_refused(case: str) -> None:
    changes, kind, message = MISTAKES[case]
    with pytest.raises(kind) as caught:
        fit_aligned(**({"factors": FACTORS, "read": READ, "write": WRITE} | changes))  # type: ignore[arg-type]
    assert caught.value.message == message
