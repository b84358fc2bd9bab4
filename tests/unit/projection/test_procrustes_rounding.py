"""What rounding of activations makes of Procrustes: little, wherever the rows leave directions undetermined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference import alignment as reference
from tests.unit.projection.samples import isometry, moments_of, random_rows, related_rows
from ual_registry.projection.maps import Direction, procrustes
from ual_registry.projection.solve import Caution

LAWS = settings(max_examples=30, deadline=None)
LEAST = 1e3 * 2.0**-23  # a thousand eps of float32


@LAWS
@given(
    width=st.integers(2, 8),
    wider=st.integers(2, 8),
    lost=st.integers(0, 3),
    seed=st.integers(0, 99),
    direction=st.sampled_from(list(Direction)),
    count=st.sampled_from([12, 60, 400]),
)
def test_rounding_of_the_rows_moves_procrustes_by_no_more_than_its_bound(
    *, width: int, wider: int, lost: int, seed: int, direction: Direction, count: int
) -> None:
    """Rows without a mean over their features, as behind a layer norm, of low rank, or both."""
    x, y = related_rows(count, width, wider, seed=seed)
    x = x - x.mean(1, keepdim=True)
    y = y @ torch.diag((torch.arange(wider) >= lost).double()) @ isometry(wider, wider, seed=seed)
    assume(y.abs().max() > 1e-9)
    noisy = [rows + 1e-7 * rows.abs().max() * random_rows(count, rows.shape[1], seed=seed + 1) for rows in (x, y)]
    clean, other = moments_of(x, y), moments_of(*noisy)
    one, two = (procrustes(moments, direction=direction) for moments in (clean, other))
    cross, moved = clean.centred().xy, other.centred().xy
    before, after = (torch.linalg.matrix_norm(part, 2) * LEAST for part in (cross, moved))
    bound = torch.linalg.norm(moved / after - cross / before)
    assert torch.linalg.norm(two.matrix - one.matrix) <= bound * (1 + 1e-6) + 1e-10
    assert bound < 0.1  # and that is little: rounding turns a direction by less than that
    stretched = torch.linalg.matrix_norm(one.matrix, 2)
    assert float(stretched) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("whitening", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("direction", Direction)
def test_rounding_moves_procrustes_little_however_rows_are_whitened(whitening: float, direction: Direction) -> None:
    x, y = related_rows(400, 9, 12)
    x = x - x.mean(1, keepdim=True)  # one direction does not move, and whitening stretches it
    noisy = [rows + 1e-7 * random_rows(*rows.shape, seed=1) for rows in (x, y)]
    one, two = (
        procrustes(moments_of(*pair), direction=direction, whitening=whitening).matrix for pair in ((x, y), noisy)
    )
    # 9e-4 at most over five seeds at 0.5. With all that is above the rounding of float64 turned in full, and 1e-6 for
    # a penalty, these are 0.3 to 140.
    assert (two - one).abs().max() < 2e-3 * one.abs().max()


@pytest.mark.parametrize("direction", Direction)
def test_procrustes_of_rows_of_low_rank_is_that_of_explicit_rows(direction: Direction) -> None:
    x, y = related_rows(60, 6, 9)
    x = x * torch.tensor([1.0, 1.0, 3e-2, 1e-3, 1e-5, 1e-9], dtype=torch.float64)
    y = torch.cat((x, 1e-7 * y[:, 6:]), dim=1)
    found = procrustes(moments_of(x, y), direction=direction)
    origin, goal = (x, y) if direction is Direction.X_TO_Y else (y, x)
    matrix = reference.procrustes(origin.numpy(), goal.numpy())
    np.testing.assert_allclose(found.matrix, matrix, rtol=0, atol=1e-10)
    assert found.report is not None
    assert (found.report.rank, found.report.cautions) == (3, (Caution.RANK_DEFICIENT,))
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values[2] == pytest.approx(1.0, abs=1e-12)
    assert 0 < values[3] < 0.1
