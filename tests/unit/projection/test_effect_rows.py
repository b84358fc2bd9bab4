"""A wanted change fitted on rows, with a norm behind the module and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.reference import alignment as reference
from tests.unit.projection.samples import DTYPES, dense, random_factors, random_rows, related_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.effect_rows import EffectRows, best_effect, rows_r2
from ual_registry.projection.factors import Factors

GAIN = torch.tensor([0.5, 2.0, -1.0, 3.0, 1.0], dtype=torch.float64)
FIT, HELD_OUT = slice(0, 90), slice(90, 120)


def linear_rows(count: int = 120) -> EffectRows:
    x, wanted = related_rows(count, 7, 5)
    return EffectRows(features=x, wanted=wanted)


def normed(rows: torch.Tensor) -> torch.Tensor:
    return GAIN * rows / rows.square().mean(1, keepdim=True).sqrt()


def normed_rows(update: Factors, *, noise: float = 0.0) -> EffectRows:
    """Return what a module with an RMS norm behind it reads, and how an update changes what the norm gives."""
    x, weight = random_rows(120, 7), random_rows(7, 5, seed=3)
    written = x @ weight
    size = written.square().mean(1, keepdim=True).sqrt()
    changed = written + x @ update.lora_A.T @ update.lora_B.T
    wanted = normed(changed) - normed(written) + noise * random_rows(120, 5, seed=8)
    return EffectRows(features=x / size, wanted=wanted, written=normed(written), gain=GAIN)


def split(rows: EffectRows) -> tuple[EffectRows, EffectRows]:
    return rows.at(torch.arange(120)[FIT]), rows.at(torch.arange(120)[HELD_OUT])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rank", [1, 3, 9])
def test_without_a_norm_it_is_reduced_rank_ridge(rank: int, dtype: torch.dtype) -> None:
    whole = linear_rows()
    fit, held_out = split(EffectRows(features=whole.features.to(dtype), wanted=whole.wanted.to(dtype)))
    found = best_effect(fit, held_out, penalties=(0.1,), rank=rank)
    expected = reference.reduced_rank_ridge(fit.features.double().numpy(), fit.wanted.double().numpy(), 0.1, rank)
    np.testing.assert_allclose(dense(found.factors), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    made = held_out.features.double().numpy() @ expected.T
    error = np.square(made - held_out.wanted.double().numpy()).sum()
    assert found.r2 == pytest.approx(1 - error / np.square(held_out.wanted.double().numpy()).sum(), abs=1e-9)


def test_the_penalty_is_the_one_that_predicts_held_out_rows_best() -> None:
    fit, held_out = split(linear_rows())
    each = {p: best_effect(fit, held_out, penalties=(p,), rank=5).r2 for p in (10.0, 0.1, 1e-3)}
    found = best_effect(fit, held_out, penalties=tuple(each), rank=5)
    assert (found.penalty, found.r2) == (max(each, key=lambda p: each[p]), max(each.values()))


def test_an_update_before_a_norm_is_found_although_the_norm_takes_lengths_out() -> None:
    update = random_factors(2, 7, 5, seed=4)
    rows = normed_rows(update)
    fit, held_out = split(rows)
    found = best_effect(fit, held_out, penalties=(1e-6,), rank=5)
    assert found.r2 > 0.999  # the rows are 5 wide: a rank of 5 cuts nothing
    assert found.r2 == rows_r2(found.factors, held_out)
    linear = best_effect(replace_norm(fit), replace_norm(held_out), penalties=(1e-6,), rank=5)
    assert rows_r2(linear.factors, held_out) < 0.99


def replace_norm(rows: EffectRows) -> EffectRows:
    return EffectRows(features=rows.features, wanted=rows.wanted)


def test_with_noise_too_the_norm_makes_it_no_worse_than_plain_ridge() -> None:
    fit, held_out = split(normed_rows(random_factors(2, 7, 5, seed=4), noise=0.3))
    found = best_effect(fit, held_out, penalties=(0.01,), rank=5)
    linear = best_effect(replace_norm(fit), replace_norm(held_out), penalties=(0.01,), rank=5)
    assert rows_r2(found.factors, fit) > rows_r2(linear.factors, fit)


def test_what_is_made_is_what_the_norm_lets_through() -> None:
    update = random_factors(2, 7, 5, seed=4)
    rows = normed_rows(update)
    # In the terms of the stream: the gain of the norm stands before the rows.
    through = Factors(update.lora_A, update.lora_B * GAIN[:, None])
    assert rows_r2(through, rows) == pytest.approx(1.0, abs=1e-12)


def test_where_nothing_is_wanted_nothing_is_made() -> None:
    rows = linear_rows()
    still = replace(rows, wanted=torch.zeros_like(rows.wanted))
    found = best_effect(*split(still), penalties=(0.1,), rank=2)
    assert (found.r2, float(np.abs(dense(found.factors)).max())) == (0.0, 0.0)


def test_rows_that_are_all_zero_get_no_update() -> None:
    rows = linear_rows()
    blank = replace(rows, features=torch.zeros_like(rows.features))
    found = best_effect(*split(blank), penalties=(0.1,), rank=2)
    assert float(np.abs(dense(found.factors)).max()) == 0.0


@pytest.mark.parametrize("penalties", [(), (0.0,), (0.1, -1.0), (float("inf"),), (float("nan"),)])
def test_penalties_without_a_meaning_are_refused(penalties: tuple[float, ...]) -> None:
    with pytest.raises(NumericalError, match="expected at least one number above 0"):
        best_effect(*split(linear_rows()), penalties=penalties, rank=2)


def test_rows_with_a_number_that_is_not_finite_are_refused() -> None:
    rows = linear_rows()
    rows.features[3, 2] = float("nan")
    with pytest.raises(NumericalError) as caught:
        best_effect(*split(rows), penalties=(0.1,), rank=2)
    assert str(caught.value) == "1 rows of features or wanted changes hold a number that is not finite"


def test_no_rows_are_refused() -> None:
    rows = linear_rows()
    none = rows.at(torch.arange(0))
    with pytest.raises(NumericalError, match="a regression of no rows: expected at least one row"):
        best_effect(none, rows, penalties=(0.1,), rank=2)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(ShapeError, match="rank 0: expected at least 1"):
        best_effect(*split(linear_rows()), penalties=(0.1,), rank=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"wanted": torch.zeros(3, 5)},
            "features and wanted of shapes [(120, 7), (3, 5)]: expected matrices with as many rows",
        ),
        (
            {"written": torch.zeros(120, 5)},
            "written and gain of shapes [(120, 5), None]: expected [(120, 5), (5,)]",
        ),
        (
            {"written": torch.zeros(120, 4), "gain": torch.ones(5)},
            "written and gain of shapes [(120, 4), (5,)]: expected [(120, 5), (5,)]",
        ),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        replace(linear_rows(), **change)
    assert str(caught.value) == message


def test_held_out_rows_of_other_widths_are_refused() -> None:
    fit, held_out = split(linear_rows())
    with pytest.raises(ShapeError) as caught:
        best_effect(fit, replace(held_out, features=held_out.features[:, :4]), penalties=(0.1,), rank=2)
    assert str(caught.value) == "held-out rows of widths (4, 5): expected (7, 5)"
