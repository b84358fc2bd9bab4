"""Small adapters made by hand, on the standard library alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.header import encode_header
from ual_registry.air.model import BaseModel, Entry, Extra, Manifest, Method, RowSlice, Stack
from ual_registry.air.tensor import Tensor
from ual_registry.binders.base import BaseConfig
from ual_registry.digest import Digest

LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 2,
    "intermediate_size": 6,
    "vocab_size": 5,
}
QUERY = "base_model.model.model.layers.0.self_attn.q_proj"


def floats(*shape: int, start: float = 1.0) -> Tensor:
    """Return an F32 tensor that counts up in steps of one half."""
    size = 1
    for length in shape:
        size *= length
    return Tensor.of_bytes("F32", shape, struct.pack(f"<{size}f", *(start + index / 2 for index in range(size))))


def base_model(**changes: Any) -> BaseModel:
    """Return a base model of two layers with fused attention."""
    fields: dict[str, Any] = {
        "id": "tiny",
        "revision": "0" * 40,
        "architecture": "gpt_neox",
        "model_type": "gpt_neox",
        "config_digest": str(Digest.of_bytes(b"config")),
        "vocab_size": 5,
        "stacks": (
            Stack(
                hidden_size=4,
                num_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=2,
                intermediate_size=6,
            ),
        ),
    }
    return BaseModel(**{**fields, **changes})


def method(**changes: Any) -> Method:
    """Return rank 2, alpha 4."""
    fields: dict[str, Any] = {
        "type": "lora",
        "task_type": "CAUSAL_LM",
        "rank": 2,
        "alpha": 4.0,
        "scaling_rule": "alpha/rank",
        "dropout": 0.0,
        "bias": "none",
        "dora": False,
    }
    return Method(**{**fields, **changes})


def entry(role: str, in_features: int, out_features: int, **changes: Any) -> Entry:
    """Return an entry of layer 0 with its own tensors."""
    fields: dict[str, Any] = {
        "layer": 0,
        "role": role,
        "in_features": in_features,
        "out_features": out_features,
        "rank": 2,
        "scaling": 2.0,
        "lora_A": f"layers.0.{role}.lora_A",
        "lora_B": f"layers.0.{role}.lora_B",
    }
    return Entry(**{**fields, **changes})


_FUSED = "gpt_neox.layers.0.attention.query_key_value"


def small_entries() -> tuple[Entry, ...]:
    """Return two slices of a fused module and a plain MLP module, sorted."""
    shared = {"lora_A": "layers.0.attention_query.lora_A", "source": _FUSED}
    return (
        entry("attention_key", 4, 4, **shared, slice=RowSlice(offset=2, block=2, stride=6, count=2)),
        entry("attention_query", 4, 4, **shared, slice=RowSlice(offset=0, block=2, stride=6, count=2)),
        entry("mlp_up", 4, 6, source="gpt_neox.layers.0.mlp.dense_h_to_4h"),
    )


def small_adapter(**changes: Any) -> Adapter:
    """Return an adapter of three entries and one extra tensor; ``changes`` are fields of its manifest."""
    tensors = {
        "layers.0.attention_query.lora_A": floats(2, 4),
        "layers.0.attention_key.lora_B": floats(4, 2, start=2),
        "layers.0.attention_query.lora_B": floats(4, 2, start=3),
        "layers.0.mlp_up.lora_A": floats(2, 4, start=4),
        "layers.0.mlp_up.lora_B": floats(6, 2, start=5),
        "extra.base_model.model.score.weight": Tensor.of_bytes("I8", (3,), b"abc"),
    }
    fields: dict[str, Any] = {
        "air_version": "1.0",
        "kind": "adapter",
        "base_model": base_model(),
        "method": method(),
        "entries": small_entries(),
        "extra": (Extra(tensor="extra.base_model.model.score.weight", name="base_model.model.score.weight"),),
        "features": ("extra-tensors",),
    }
    return Adapter(Manifest(**{**fields, **changes}), tensors)


def container(header: Mapping[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return the bytes of a container, legal or not: a header document or its raw bytes, and the tensor data."""
    if isinstance(header, bytes):
        return (len(header) if length is None else length).to_bytes(8, "little") + header + data
    return encode_header(header) + data


def split_container(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header document and the tensor data of a legal container."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def llama_base(**changes: Any) -> BaseConfig:
    """Return the config of a Llama of two layers."""
    document = {**LLAMA_CONFIG, **changes}
    return BaseConfig(label="tiny", document=document, digest=Digest.of_bytes(json.dumps(document).encode()))


def peft_config(**changes: Any) -> dict[str, Any]:
    """Return a PEFT configuration that targets the query projections."""
    return {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], **changes}


def peft_tensors(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return the factors of one query projection; ``changes`` replace, add or (``None``) drop them by suffix."""
    found = {
        f"{QUERY}.lora_A.weight": floats(2, 4),
        f"{QUERY}.lora_B.weight": floats(4, 2),
    }
    found.update({f"{QUERY}.{name.replace('__', '.')}": tensor for name, tensor in changes.items() if tensor})
    for name in [name for name, tensor in changes.items() if tensor is None]:
        del found[f"{QUERY}.{name.replace('__', '.')}"]
    return found


def write_peft(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> Path:
    """Write a PEFT folder by hand, in the order given."""
    folder.mkdir()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.to_bytes()
        offsets = (len(data), len(data) + len(raw))
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    (folder / "adapter_model.safetensors").write_bytes(container(json.dumps(header).encode(), data))
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
