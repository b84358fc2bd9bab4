"""AIR tensors and torch tensors: whose memory is whose."""

from __future__ import annotations

import pytest
import torch

from ual_registry.air.tensor import MemorySource, Segment, Tensor
from ual_registry.errors import NumericalError
from ual_registry.tensors import from_torch, to_torch

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_comes_back_from_its_bytes(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, dtype=torch.float64).to(DTYPES[dtype])
    stored = from_torch(tensor, dtype)
    assert (stored.dtype, stored.shape, stored.size_bytes) == (dtype, shape, tensor.nbytes)
    assert torch.equal(to_torch(stored), tensor)


def test_a_tensor_in_pieces_is_put_together() -> None:
    first, second = MemorySource(b"\0\0\x80\x3f\0\0"), MemorySource(b"\0\x40")
    tensor = Tensor("F32", (2,), (Segment(first, 0, 6), Segment(second, 0, 2)))
    assert to_torch(tensor).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("is_own", "part", "wanted"),
    [(False, slice(None), 1.0), (True, slice(None), 9.0), (True, slice(0, 2), 1.0)],
    ids=["of others", "given away", "a part that is given away"],
)
def test_memory_is_shared_where_a_whole_tensor_is_given_away(is_own: bool, part: slice, wanted: float) -> None:
    tensor = torch.ones(3)
    stored = from_torch(tensor[part], "F32", is_own=is_own)
    tensor.fill_(9.0)
    assert to_torch(stored).tolist() == [wanted] * len(tensor[part])


def test_numbers_that_are_rounded_have_memory_of_their_own_in_rows() -> None:
    tensor = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T
    stored = from_torch(tensor, "F32", is_own=True)
    tensor.fill_(9.0)
    assert to_torch(stored).tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_what_is_not_finite_in_its_dtype_is_refused(value: float) -> None:
    with pytest.raises(NumericalError) as caught:
        from_torch(torch.tensor([1.0, value], dtype=torch.float64), "F32")
    assert (caught.value.message, caught.value.hint) == (
        "a number is not finite in F32",
        "store the result in a wider dtype",
    )
