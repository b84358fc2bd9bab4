"""Where the benchmark computes, for this process and for those that it starts.

It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import torch

from benchmarks.transfer.rungs import DEVICE
from ual_registry.models.loaded import LoadedBase, load_base_model

__all__ = ["load"]


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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or PyTorch without it
        raise click.ClickException(f"device {device!r}: {str(error).splitlines()[0]}; try cpu or cuda") from error
    return load_base_model(folder, dtype=dtype, device=device)
