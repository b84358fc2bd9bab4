"""One pass over tensors gives the digest that hashlib gives of them, however they are shared out."""

from __future__ import annotations

import hashlib
import struct

import pytest

from ual_registry.air import scan
from ual_registry.air.scan import TensorScan, listing, scan_tensors
from ual_registry.air.tensor import Tensor
from ual_registry.digest import Digest

SIZES = (0, 4, 1 << 18, (1 << 18) + 4, 4 << 18, 8, 12)
"""In bytes; a chunk has 2^18."""


def of_numbers(name: str, size_bytes: int, *more: float) -> Tensor:
    seed = hashlib.sha256(name.encode()).digest()[:4].replace(b"\x7f", b"\x3f").replace(b"\xff", b"\x3f")
    data = seed * (size_bytes // 4) + struct.pack(f"<{len(more)}f", *more)
    return Tensor.of_bytes("F32", (len(data) // 4,), data)


def expected(tensors: dict[str, Tensor]) -> Digest:
    digests = {name: hashlib.sha256(tensor.to_bytes()).hexdigest() for name, tensor in tensors.items()}
    return Digest.of_bytes(listing(tensors, digests))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", range(len(SIZES) + 1))
def test_tensors_of_any_sizes_have_the_digest_of_hashlib(count: int, threads: int) -> None:
    tensors = {f"t{index}": of_numbers(f"t{index}", size) for index, size in enumerate(SIZES[:count])}
    assert scan_tensors(tensors, threads=threads) == TensorScan(tensor_digest=expected(tensors), non_finite=())


def test_those_that_are_not_finite_are_named_in_order_and_only_where_asked_for() -> None:
    nan, infinity = float("nan"), float("-inf")
    tensors = {
        "d": of_numbers("d", 1 << 19, nan),
        "c": of_numbers("c", 1 << 19, 1.0),
        "b": of_numbers("b", 8, infinity, nan),
        "a": of_numbers("a", 8, nan),
    }
    found = scan_tensors(tensors, check_finite=("b", "c", "d"))
    assert found == TensorScan(tensor_digest=expected(tensors), non_finite=("b", "d"))


def test_every_tensor_is_in_one_group() -> None:
    tensors = {f"t{index}": of_numbers(f"t{index}", size) for index, size in enumerate(SIZES)}
    assert [name for group in scan._groups(tensors, 2) for name in group] == sorted(tensors)
