"""One effect shared out among several modules, against one stacked least-squares problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import predictions as reference
from tests.unit.projection.samples import DTYPES, dense, random_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.contexts import PredictionContext
from ual_registry.projection.joint_ridge import JointRows, best_joint_ridge, joint_r2, joint_ridge
from ual_registry.projection.methods import PREDICTIONS

WIDTHS = (4, 7)


def rows(count: int = 30, out: int = 5, seed: int = 0) -> JointRows:
    """Return rows of two modules, one of them ten times as large, and what both make of them with some noise."""
    x, y = random_rows(count, WIDTHS[0], seed=seed), 10 * random_rows(count, WIDTHS[1], seed=seed + 1)
    mixing = random_rows(WIDTHS[0], out, seed=90) - 1, random_rows(WIDTHS[1], out, seed=91) - 1
    noise = 0.3 * (random_rows(count, out, seed=seed + 2) - 1)
    return JointRows(features=(x, y), wanted=x @ mixing[0] + y @ mixing[1] / 10 + noise)


def expected(given: JointRows, penalty: float, rank: int) -> list[np.ndarray]:
    features = [x.double().numpy() for x in given.features]
    found = reference.joint_ridge(features, given.wanted.double().numpy(), penalty)
    return [reference.cut(x, matrix, rank).T for x, matrix in zip(features, found, strict=True)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "rank"), [(30, 9), (30, 2), (6, 3)])
def test_the_dual_gives_what_least_squares_gives(dtype: torch.dtype, count: int, rank: int) -> None:
    own = rows(count)
    own = JointRows(features=tuple(x.to(dtype) for x in own.features), wanted=own.wanted.to(dtype))
    found = joint_ridge(own, penalty=0.1, rank=rank)
    for item, matrix in zip(found, expected(own, 0.1, rank), strict=True):
        np.testing.assert_allclose(dense(item), matrix, rtol=0, atol=1e-9)
        assert item.rank == min(rank, 5, item.in_features)
        assert item.lora_A.dtype == torch.float64


def test_how_large_the_rows_of_a_module_are_does_not_matter() -> None:
    own = rows()
    larger = JointRows(features=(own.features[0] * 1000, own.features[1]), wanted=own.wanted)
    one, other = (joint_ridge(item, penalty=0.1, rank=3) for item in (own, larger))
    np.testing.assert_allclose(dense(one[0]), 1000 * dense(other[0]), rtol=0, atol=1e-9)
    np.testing.assert_allclose(dense(one[1]), dense(other[1]), rtol=0, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.001, 1.0), st.floats(0.1, 10.0))
def test_a_wanted_effect_times_a_number_gives_updates_times_it(seed: int, penalty: float, factor: float) -> None:
    own = rows(12, seed=seed)
    scaled = JointRows(features=own.features, wanted=own.wanted * factor)
    for one, other in zip(*(joint_ridge(item, penalty=penalty, rank=5) for item in (own, scaled)), strict=True):
        np.testing.assert_allclose(dense(other), factor * dense(one), rtol=1e-6, atol=1e-9)


def test_the_penalty_is_the_one_that_predicts_held_out_rows_best() -> None:
    fit, held_out = rows(9), rows(40, seed=7)
    penalties = (10.0, 1.0, 0.1, 0.01, 1e-5)
    found = best_joint_ridge(fit, held_out, penalties=penalties, rank=5)
    shares = {penalty: joint_r2(joint_ridge(fit, penalty=penalty, rank=5), held_out) for penalty in penalties}
    assert found.penalty == max(penalties, key=shares.__getitem__)
    assert found.r2 == pytest.approx(shares[found.penalty], rel=1e-9)
    assert len(set(shares.values())) == len(penalties)


def test_the_method_of_the_table_does_this() -> None:
    fit, held_out = rows(20), rows(20, seed=7)
    context = PredictionContext(fit=fit, held_out=held_out, rank=2)
    found = PREDICTIONS.fit(context)
    same = best_joint_ridge(fit, held_out, penalties=(0.3, 0.1, 0.03, 0.01), rank=2)
    assert (found.penalty, found.r2) == (same.penalty, same.r2)
    assert (PREDICTIONS.name, PREDICTIONS.needs) == ("predictions", "predictions")


def test_a_share_is_0_where_nothing_is_wanted_and_1_where_all_is_given() -> None:
    own = rows(8)
    nothing = JointRows(features=own.features, wanted=torch.zeros(8, 5))
    found = joint_ridge(own, penalty=1e-9, rank=5)  # 8 rows and 11 features: every effect can be made
    assert joint_r2(found, own) == pytest.approx(1.0, abs=1e-6)
    assert joint_r2(found, nothing) == 0.0


def test_a_module_that_reads_nothing_gets_nothing() -> None:
    own = rows()
    found = joint_ridge(
        JointRows(features=(own.features[0] * 0, own.features[1]), wanted=own.wanted), penalty=1, rank=2
    )
    assert float(found[0].lora_A.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("penalty", "rank", "kind", "message"),
    [
        (0.0, 1, NumericalError, "penalties (0.0,): expected at least one number above 0"),
        (0.1, 0, ShapeError, "rank 0: expected at least 1"),
    ],
)
def test_settings_without_a_meaning_are_refused(penalty: float, rank: int, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        joint_ridge(rows(), penalty=penalty, rank=rank)
    assert str(caught.value) == message


def test_rows_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        JointRows(features=(torch.zeros(3, 2),), wanted=torch.zeros(4, 2))
    assert str(caught.value) == (
        "features and wanted effect of shapes [(3, 2), (4, 2)]: expected matrices with as many rows"
    )
    own = rows(6)
    other = JointRows(features=own.features[:1], wanted=own.wanted)
    with pytest.raises(ShapeError) as caught:
        best_joint_ridge(own, other, penalties=(0.1,), rank=1)
    assert str(caught.value) == "held-out rows of widths [4, 5]: expected [4, 7, 5]"


def test_no_rows_and_rows_that_are_not_finite_are_refused() -> None:
    own = rows(3)
    with pytest.raises(NumericalError) as caught:
        joint_ridge(rows(0), penalty=0.1, rank=1)
    assert str(caught.value) == "joint ridge of no rows: expected at least one row"
    with pytest.raises(NumericalError) as caught:
        joint_ridge(JointRows(features=own.features, wanted=own.wanted * torch.nan), penalty=0.1, rank=1)
    assert str(caught.value) == "rows or the wanted effect hold a number that is not finite"
