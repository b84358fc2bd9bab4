"""How far two updates are apart, against the dense computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.reference import lora as reference
from ual_registry.projection.difference import core_norm, relative_difference
from ual_registry.projection.factors import Factors


def factors(rank: int, seed: int, *, rows: int = 11, columns: int = 7) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    return Factors(
        torch.randn(rank, columns, generator=generator, dtype=torch.float64),
        torch.randn(rows, rank, generator=generator, dtype=torch.float64),
    )


def dense(update: Factors) -> np.ndarray:
    whole = np.zeros((update.out_features, update.in_features))
    for index in range(update.rank):
        whole += np.outer(update.lora_B[:, index].numpy(), update.lora_A[index].numpy())
    return whole


@pytest.mark.parametrize(("rank", "other"), [(1, 1), (3, 3), (2, 5), (6, 7)])
def test_the_difference_is_that_of_the_dense_updates(rank: int, other: int) -> None:
    first, second = factors(rank, 1), factors(other, 2)
    expected = reference.relative_difference(dense(first), dense(second))
    # Both compute in float64 on a few dozen numbers.
    assert relative_difference(first, second) == pytest.approx(expected, rel=1e-13)
    assert core_norm(first) == pytest.approx(np.linalg.norm(dense(first)), rel=1e-13)


@pytest.mark.parametrize("scale", [3.0, -0.7, 1e-3, 1e5])
def test_a_number_moved_from_one_factor_to_the_other_is_no_difference(scale: float) -> None:
    first = factors(4, 3)
    moved = Factors(first.lora_A * scale, first.lora_B / scale)
    found = relative_difference(first, moved)
    # A few roundings of float64, not the 1e-8 that a difference of squares would leave.
    assert found is not None
    assert found < 1e-14


def test_a_small_difference_keeps_its_digits() -> None:
    first = factors(4, 3)
    changed = Factors(first.lora_A, first.lora_B * (1 + 1e-10))
    # 1e-10 is known to 1e-16 / 1e-10 = 1e-6 of itself.
    assert relative_difference(first, changed) == pytest.approx(1e-10, rel=1e-5)


def test_zero_updates_have_no_ratio_unless_both_are_zero() -> None:
    some = factors(2, 1)
    zero = some.scaled(0.0)
    assert relative_difference(zero, zero) == reference.relative_difference(dense(zero), dense(zero)) == 0.0
    assert relative_difference(zero, some) is reference.relative_difference(dense(zero), dense(some)) is None
    assert relative_difference(some, zero) == pytest.approx(1.0, rel=1e-14)
