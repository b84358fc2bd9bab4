"""Adapters that nobody has seen: for a Hub that keeps what it was sent once, new numbers each time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.interop.to_peft import to_peft
from ual_registry.workflows.reading import read_adapter

__all__ = ["AIR_FILE", "WIDTH", "write_fresh", "write_pair"]

AIR_FILE = "adapter.air"
WIDTH = 27_200
"""Of a layer of 10 MB."""

_FINITE = bytes(byte & 0xBF if byte & 0x7F == 0x7F else byte for byte in range(256))
"""For the upper byte of BF16: neither infinite nor no number."""


def _fresh(adapter: Adapter, mark: str) -> Adapter:
    """Return an adapter of the same shapes with other numbers, so that no byte of it is known anywhere."""
    tensors = {}
    for name, tensor in adapter.tensors.items():
        data = bytearray(os.urandom(len(tensor.to_bytes())))
        data[1::2] = data[1::2].translate(_FINITE)
        tensors[name] = Tensor.of_bytes(tensor.dtype, tensor.shape, bytes(data))
    return Adapter(replace(adapter.manifest, description=mark), tensors)


def write_fresh(folder: Path, adapter: Adapter, names: list[str]) -> list[Path]:
    """Write AIR files of these shapes into a folder that is made, and return their places."""
    folder.mkdir(parents=True)
    paths = [folder / name for name in names]
    for path in paths:
        write(_fresh(adapter, path.stem), path)
    return paths


def write_pair(path: Path) -> list[Path]:
    """Write the PEFT pair of an AIR file beside it, and return the places of both files."""
    scratch = path.parent / "peft"
    with read_adapter(path) as adapter:
        to_peft(adapter, scratch)
    pair = [found.rename(path.parent / found.name) for found in sorted(scratch.iterdir())]
    scratch.rmdir()
    return pair
