"""Laws of tensors as byte ranges: slices come together again, and finiteness is what numpy says."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.air.finite import is_finite
from ual_registry.air.model import RowSlice
from ual_registry.air.tensor import Tensor, join_rows


@st.composite
def sliced(draw: st.DrawFn) -> tuple[Tensor, list[RowSlice]]:
    """Return a tensor and slices that tile its rows, contiguous or per head."""
    roles, heads, block, width = (draw(st.integers(1, 4)) for _ in range(4))
    if draw(st.booleans()):
        heads = 1
    rows = roles * heads * block
    data = bytes(index % 251 for index in range(rows * width * 2))
    slices = [RowSlice(offset=index * block, block=block, stride=roles * block, count=heads) for index in range(roles)]
    return Tensor.of_bytes("F16", (rows, width), data), draw(st.permutations(slices))


@given(sliced())
def test_joining_slices_is_the_inverse_of_taking_them(made: tuple[Tensor, list[RowSlice]]) -> None:
    whole, slices = made
    joined = join_rows([(rows, whole.take_rows(rows)) for rows in slices])
    assert (joined.dtype, joined.shape, joined.to_bytes()) == (whole.dtype, whole.shape, whole.to_bytes())


@given(sliced())
def test_a_slice_holds_the_rows_that_numpy_takes(made: tuple[Tensor, list[RowSlice]]) -> None:
    whole, slices = made
    array = np.frombuffer(whole.to_bytes(), "<u2").reshape(whole.shape)
    for rows in slices:
        wanted = [row for start, count in rows.runs() for row in range(start, start + count)]
        taken = whole.take_rows(rows)
        assert taken.shape == (rows.rows, whole.shape[1])
        assert taken.to_bytes() == array[wanted].tobytes()


@given(sliced(), st.integers(1, 7))
def test_chunks_are_the_bytes_in_order(made: tuple[Tensor, list[RowSlice]], limit: int) -> None:
    whole, slices = made
    part = whole.take_rows(slices[0])
    chunks = list(part.chunks(limit))
    assert b"".join(chunks) == part.to_bytes()
    assert all(0 < len(chunk) <= limit for chunk in chunks)


@pytest.mark.parametrize(("dtype", "kind"), [("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8")])
@given(data=st.binary(max_size=96))
def test_finite_is_what_numpy_calls_finite(dtype: str, kind: str, data: bytes) -> None:
    whole = data[: len(data) // 8 * 8]
    assert is_finite(dtype, whole) == bool(np.isfinite(np.frombuffer(whole, kind)).all())


@pytest.mark.parametrize(("dtype", "code"), [("F16", "e"), ("F32", "f"), ("F64", "d")])
@given(values=st.lists(st.floats(-60000, 60000) | st.sampled_from([float("nan"), float("inf"), -float("inf")])))
def test_a_number_that_is_not_finite_is_found_among_others(dtype: str, code: str, values: list[float]) -> None:
    data = struct.pack(f"<{len(values)}{code}", *values)
    assert is_finite(dtype, data) == bool(np.isfinite(values).all())


def test_every_half_precision_number_is_judged_as_numpy_does() -> None:
    half = np.arange(2**16, dtype="<u2")
    brain = (half.astype("<u4") << 16).view("<f4")
    with np.errstate(invalid="ignore"):
        expected = {"F16": np.isfinite(half.view("<f2")), "BF16": np.isfinite(brain)}
    for dtype, judged in expected.items():
        found = [is_finite(dtype, bits.tobytes()) for bits in half]
        assert found == judged.tolist()
