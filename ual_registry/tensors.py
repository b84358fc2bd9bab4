"""The only door between bytes and torch: AIR tensors become torch tensors, and the other way."""

from __future__ import annotations

import math
from typing import Any

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor
from ual_registry.errors import NumericalError
from ual_registry.projection.factors import Factors

__all__ = ["entry_factors", "from_torch", "stored_factors", "to_torch"]

_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def to_torch(tensor: Tensor) -> torch.Tensor:
    """Copy a floating-point AIR tensor into a torch tensor of the same dtype and shape, on the CPU."""
    found = torch.empty(tensor.shape, dtype=_DTYPES[tensor.dtype])
    tensor.read_into(memoryview(_bytes_of(found)))
    return found


def from_torch(tensor: torch.Tensor, dtype: str, *, is_own: bool = False) -> Tensor:
    """Make an AIR tensor of a torch tensor.

    Args:
        tensor: Any shape, dtype and device.
        dtype: ``F16``, ``BF16``, ``F32`` or ``F64``; numbers are rounded to it.
        is_own: Whether nobody changes the torch tensor any more, so that its memory can be that of the result. It is
            copied otherwise, as it is where it is a part of a larger one.

    Raises:
        NumericalError: A number is not finite in ``dtype``.
    """
    rounded = tensor.detach().to("cpu", _DTYPES[dtype], memory_format=torch.contiguous_format)
    if not _is_finite(rounded):
        raise NumericalError(f"a number is not finite in {dtype}", hint="store the result in a wider dtype")
    is_part = rounded.untyped_storage().nbytes() != rounded.nbytes
    if is_part or (not is_own and rounded.data_ptr() == tensor.data_ptr()):
        rounded = rounded.clone()
    return Tensor.of_bytes(dtype, tuple(tensor.shape), memoryview(_bytes_of(rounded)).toreadonly())


def _bytes_of(tensor: torch.Tensor) -> Any:
    """Return the memory of a contiguous tensor, as an array of bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def entry_factors(adapter: Adapter, entry: Entry) -> Factors:
    """Return the factors of an entry in float64, its scaling folded into ``lora_B``.

    Raises:
        NumericalError: A factor holds a NaN or an infinity.
    """
    found = stored_factors(adapter, entry).to_float64()
    return Factors(found.lora_A, found.lora_B.mul(entry.scaling))


def stored_factors(adapter: Adapter, entry: Entry) -> Factors:
    """Return the factors of an entry as they are stored, without its scaling, in memory of their own.

    Raises:
        NumericalError: A factor holds a NaN or an infinity.
    """
    lora_A, lora_B = (to_torch(adapter.tensors[name]) for name in (entry.lora_A, entry.lora_B))
    for name, factor in ((entry.lora_A, lora_A), (entry.lora_B, lora_B)):
        if not _is_finite(factor):
            raise NumericalError(f"{name}: holds a NaN or an infinity", context={"tensor": name})
    return Factors(lora_A, lora_B)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether all numbers are finite; a sum that is finite says so in a tenth of the time."""
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())
