"""Where the benchmark computes, for this process and for those that it starts.

It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
import torch

from benchmarks.transfer.rungs import DEVICE
from ual_registry.errors import TransferError
from ual_registry.models.loaded import LoadedBase, load_base_model, require_device

__all__ = ["fastest_dtype", "load"]

_SIZE, _ROUNDS = 512, 5


def load(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedBase:
    """Load a base model to where the benchmark computes.

    Args:
        folder: Folder of the model.
        dtype: What to compute in.

    Raises:
        click.ClickException: There is no such device here.
    """
    device = os.environ.get(DEVICE, "cpu")
    try:
        require_device(device)
    except TransferError as error:
        raise click.ClickException(f"{error.message}; try cpu or cuda") from error
    return load_base_model(folder, dtype=dtype, device=device)


def fastest_dtype() -> torch.dtype:
    """Return bfloat16 where the device multiplies it faster than float32; some processors take many times as long."""
    device = os.environ.get(DEVICE, "cpu")
    return min((torch.bfloat16, torch.float32), key=lambda dtype: _product_s(dtype, device))


def _product_s(dtype: torch.dtype, device: str) -> float:
    """Return the seconds of a product, the fastest of several; the first ones load what they need."""
    one = torch.randn(_SIZE, _SIZE).to(device, dtype)
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        float((one @ one)[0, 0])  # a number that is asked for has been computed
        times.append(time.perf_counter() - start)
    return min(times)
