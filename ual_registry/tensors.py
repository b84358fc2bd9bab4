"""The only door between bytes and torch: AIR tensors become torch tensors, and the other way."""

from __future__ import annotations

import math

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor
from ual_registry.errors import NumericalError
from ual_registry.projection.factors import Factors

__all__ = ["entry_factors", "from_torch", "to_torch"]

_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def to_torch(tensor: Tensor) -> torch.Tensor:
    """Copy a floating-point AIR tensor into a torch tensor of the same dtype and shape, on the CPU."""
    return torch.frombuffer(bytearray(tensor.to_bytes()), dtype=_DTYPES[tensor.dtype]).reshape(tensor.shape)


def from_torch(tensor: torch.Tensor, dtype: str) -> Tensor:
    """Copy a torch tensor into an AIR tensor.

    Args:
        tensor: Any shape, dtype and device.
        dtype: ``F16``, ``BF16``, ``F32`` or ``F64``; numbers are rounded to it.

    Raises:
        NumericalError: A number is not finite in ``dtype``.
    """
    rounded = tensor.detach().to("cpu", _DTYPES[dtype]).contiguous()
    if not _is_finite(rounded):
        raise NumericalError(f"a number is not finite in {dtype}", hint="store the result in a wider dtype")
    data = rounded.view(torch.uint8).numpy().tobytes() if rounded.numel() else b""
    return Tensor.of_bytes(dtype, tuple(tensor.shape), data)


def entry_factors(adapter: Adapter, entry: Entry) -> Factors:
    """Return the factors of an entry in float64, its scaling folded into ``lora_B``.

    Raises:
        NumericalError: A factor holds a NaN or an infinity.
    """
    lora_A = to_torch(adapter.tensors[entry.lora_A]).to(torch.float64)
    lora_B = to_torch(adapter.tensors[entry.lora_B]).to(torch.float64)
    for name, factor in ((entry.lora_A, lora_A), (entry.lora_B, lora_B)):
        if not _is_finite(factor):
            raise NumericalError(f"{name}: holds a NaN or an infinity", context={"tensor": name})
    return Factors(lora_A, lora_B.mul_(entry.scaling))


def _is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether all numbers are finite; a sum that is finite says so in a tenth of the time."""
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())
