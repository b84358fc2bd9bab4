"""Products of factors by the C extension are those of torch in float64, for every rank, width, axis and dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.projection.samples import random_factors
from ual_registry.projection import tiles
from ual_registry.projection.factors import Factors
from ual_registry.projection.interpolate import resample_features
from ual_registry.projection.methods import SHAPE_METHODS, project
from ual_registry.projection.sides import products

pytestmark = pytest.mark.skipif(tiles._compiled is None, reason="the extension is not here")

DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
AXES = st.integers(0, 1)
RANKS = st.integers(1, 9) | st.sampled_from([16, 33])
WIDTHS = st.integers(1, 9) | st.sampled_from([63, 64, 65, 128, 200])


def factor_of(rank: int, width: int, axis: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rank * 1000 + width)
    shape = (rank, width) if axis == 1 else (width, rank)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Sums of at most 200 products, added in another order.
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(RANKS, WIDTHS, WIDTHS, AXES, DTYPES)
@example(16, 64, 64, 1, torch.float32)
@example(1, 1, 1, 0, torch.float32)
def test_gram_matrices_of_a_head_and_of_all(rank: int, width: int, head: int, axis: int, dtype: torch.dtype) -> None:
    factor, head = factor_of(rank, width, axis, dtype), min(head, width)
    found = tiles.grams(factor, axis, head)
    assert found is not None
    exact = factor.double()
    first = exact.narrow(axis, 0, head)
    assert_same(found[0], products(first, first, axis))
    assert_same(found[1], products(exact, exact, axis))
    assert torch.equal(found[1], found[1].T)


@given(st.tuples(RANKS, RANKS), st.tuples(WIDTHS, st.integers(0, 80)), AXES, st.tuples(DTYPES, DTYPES))
def test_features_are_mixed_padded_and_rounded_once(
    ranks: tuple[int, int], widths: tuple[int, int], axis: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    (rank, columns), (width, more), (dtype, stored) = ranks, widths, dtypes
    factor, matrix = factor_of(rank, width, axis, dtype), factor_of(columns, rank, 0, torch.float64)
    found = tiles.mixed(factor, axis, matrix, width + more, stored)
    assert found is not None
    exact = factor.double()
    made = matrix.T @ exact if axis == 1 else exact @ matrix
    expected = torch.cat([made, made.new_zeros((columns, more) if axis == 1 else (more, columns))], dim=axis)
    assert (found.dtype, found.shape) == (stored, expected.shape)
    # Rounding may fall to the other side where the sums differ in their last bits.
    unit = torch.finfo(stored).eps
    torch.testing.assert_close(found.double(), expected, rtol=max(unit, 1e-12), atol=max(unit * 1e-3, 1e-12))


@given(RANKS, WIDTHS, WIDTHS, AXES, DTYPES)
@example(16, 200, 1, 1, torch.float32)
@example(16, 1, 200, 0, torch.float32)
@example(3, 64, 65, 1, torch.float64)
def test_features_are_sampled_there_and_back(rank: int, width: int, other: int, axis: int, dtype: torch.dtype) -> None:
    factor = factor_of(rank, width, axis, dtype)
    found = tiles.resampled(factor, axis, other)
    assert found is not None
    own = factor.double()
    new = resample_features(own, other, axis)
    back = resample_features(new, width, axis)
    assert_same(found[0], new)
    for gram, (first, second) in zip(found[1], [(own, own), (new, new), (back, back), (own, back)], strict=True):
        assert_same(gram, products(first, second, axis))


@pytest.mark.parametrize("method", SHAPE_METHODS)
@pytest.mark.parametrize("shape", [(20, 30), (12, 50), (40, 9)], ids=str)
def test_without_the_extension_torch_gives_the_same(
    method: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = random_factors(4, 20, 30)
    stored = Factors(own.lora_A.float(), own.lora_B.float())
    compiled = project(stored, method, *shape, scale=-0.7)
    monkeypatch.setattr(tiles, "_compiled", None)
    plain = project(stored, method, *shape, scale=-0.7)
    for name in ("energy_kept", "norm_ratio", "effective_rank", "size"):
        # Everything is summed in float64, in another order.
        assert getattr(compiled, name) == pytest.approx(getattr(plain, name), rel=1e-12)
    expected = plain.factors.lora_B.double() @ plain.factors.lora_A.double()
    assert_same(compiled.factors.lora_B.double() @ compiled.factors.lora_A.double(), expected)
    assert compiled.factors.lora_A.dtype == plain.factors.lora_A.dtype


@pytest.mark.parametrize("call", ["grams", "mixed", "resampled"])
def test_buffers_that_do_not_fill_their_shapes_are_refused(call: str) -> None:
    small, square = bytearray(4 * 6), bytearray(8 * 4)
    arguments = {
        "grams": (small, False, 1, 2, 4, 4, bytearray(2 * 32)),
        "mixed": (small, False, 1, 2, 3, 3, square, 2, bytearray(4 * 6), False, 4),
        "resampled": (small, False, 1, 2, 3, bytearray(8 * 6), 4, bytearray(4 * 32)),
    }
    with pytest.raises(ValueError, match="a buffer does not fill its shape"):
        getattr(tiles._compiled, call)(*arguments[call])


@pytest.mark.parametrize("head", [0, 4, -1])
def test_a_head_that_is_no_part_is_refused(head: int) -> None:
    with pytest.raises(ValueError, match="the head must be a part of the factor"):
        tiles._compiled.grams(bytearray(4 * 6), False, 1, 2, 3, head, bytearray(2 * 32))


@pytest.mark.parametrize(("rank", "width"), [(0, 3), (2, 0), (-1, 3), (1 << 40, 1 << 40)])
def test_a_shape_without_numbers_or_beyond_memory_is_refused(rank: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"a factor has a rank and features|a buffer does not fill its shape"):
        tiles._compiled.grams(bytearray(4 * 6), False, 1, rank, width, 1, bytearray(2 * 32))


def test_empty_factors_and_those_on_other_devices_are_left_to_torch() -> None:
    for factor in (torch.empty(0, 3), torch.empty(2, 0), torch.empty(2, 3, device="meta")):
        assert tiles.grams(factor, 1, 1) is None
        assert tiles.mixed(factor, 1, torch.eye(2, dtype=torch.float64), 4, torch.float32) is None
        assert tiles.resampled(factor, 1, 4) is None
