"""LoRA in slow, obvious float64: what the entries of an adapter do to the weights of a base model."""

from __future__ import annotations

import numpy as np

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor


def numbers(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor, shape as stored, float64."""
    data = tensor.to_bytes()
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64).reshape(tensor.shape)
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor.dtype]
    return np.frombuffer(data, kind).astype(np.float64).reshape(tensor.shape)


def entry_delta(adapter: Adapter, entry: Entry) -> np.ndarray:
    """Return ``scaling * lora_B @ lora_A``, shape (out_features, in_features), float64."""
    lora_a, lora_b = numbers(adapter.tensors[entry.lora_A]), numbers(adapter.tensors[entry.lora_B])
    delta = np.zeros((entry.out_features, entry.in_features))
    for index in range(entry.rank):
        delta += entry.scaling * np.outer(lora_b[:, index], lora_a[index])
    return delta


def module_delta(adapter: Adapter, path: str, rows: int) -> np.ndarray:
    """Return the change of a whole weight of ``rows`` rows, the entries of a fused module in their places."""
    entries = [entry for entry in adapter.entries if entry.source == path]
    whole = np.zeros((rows, entries[0].in_features))
    for entry in entries:
        own = entry_delta(adapter, entry)
        if entry.slice is None:
            whole[:] = own
            continue
        done = 0
        for block in range(entry.slice.count):
            for row in range(entry.slice.block):
                whole[entry.slice.offset + block * entry.slice.stride + row] = own[done]
                done += 1
    return whole


def relative_difference(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the norm of the dense difference over that of the first; ``None`` where only the first is zero."""
    apart = float(np.sqrt(((first - second) ** 2).sum()))
    size = float(np.sqrt((first**2).sum()))
    if size == 0:
        return 0.0 if apart == 0 else None
    return apart / size
