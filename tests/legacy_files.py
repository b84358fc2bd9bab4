"""Files of ual-adapter 0.1, made from what its code writes and its documentation describes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tests.handmade import container
from ual_registry.air.tensor import Tensor

PAIR_METADATA: dict[str, Any] = {
    "version": "1.0.0",
    "source_model": "org/tiny",
    "source_architecture": "llama",
    "source_dimensions": {"hidden_size": 4},
    "adapter_rank": 2,
    "adapter_alpha": 4.0,
    "training_config": {},
    "domain": "medical",
    "description": "",
    "created_at": "",
}
"""The dataclass of its code, as it is dumped."""


def matrix(rows: int, columns: int, start: float = 1.0) -> list[list[float]]:
    """Return rows that count up in steps of one half."""
    return [[start + (row * columns + column) / 2 for column in range(columns)] for row in range(rows)]


def record(role: str = "attention_query", layer: int = 0, **changes: Any) -> dict[str, Any]:
    """Return one entry of the documented JSON form, of the tiny Llama's query by default."""
    fields: dict[str, Any] = {
        "semantic_role": role,
        "layer_index": layer,
        "lora_A": matrix(2, 4),
        "lora_B": matrix(4, 2, start=2.0),
        "original_shape": [4, 4],
        "rank": 2,
    }
    return {**fields, **changes}


def document(*records: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return the documented JSON form."""
    fields: dict[str, Any] = {"version": "0.1.0", "source_architecture": "llama", "rank": 2, "alpha": 4}
    return {"metadata": {**fields, **metadata}, "adapters": list(records or (record(),))}


def write_document(path: Path, value: Any) -> Path:
    """Write the JSON form, as ``json.dump`` does, NaN and all."""
    path.write_text(json.dumps(value))
    return path


def pair_tensors() -> dict[str, Tensor]:
    """Return what the exporter leaves of one query and one output projection: their ``lora_B`` alone."""
    numbers = struct.pack("<8f", *range(8))
    return {
        "layer_0.attention_query": Tensor.of_bytes("F32", (4, 2), numbers),
        "layer_1.attention_output": Tensor.of_bytes("F32", (4, 2), numbers),
    }


def write_pair(folder: Path, name: str, tensors: dict[str, Tensor], metadata: Any = PAIR_METADATA) -> Path:
    """Write ``NAME.weights.safetensors`` and, unless it is ``None``, ``NAME.metadata.json``; return the weights."""
    header: dict[str, Any] = {"__metadata__": {"format": "air", "version": "1.0.0"}}
    data = b""
    for key, tensor in tensors.items():
        raw = tensor.to_bytes()
        offsets = (len(data), len(data) + len(raw))
        header[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    weights = folder / f"{name}.weights.safetensors"
    weights.write_bytes(container(json.dumps(header).encode(), data))
    if metadata is not None:
        (folder / f"{name}.metadata.json").write_text(json.dumps(metadata, indent=2))
    return weights
