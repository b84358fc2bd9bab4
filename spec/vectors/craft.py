"""Write AIR files, legal or not, byte by byte; on the standard library alone and without the product's writer.

Nothing here is shared with the package under test: canonical JSON, digests and the layout of a file are made anew from
the specification, so that an expected digest is a second opinion.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

__all__ = [
    "ALL_DTYPES",
    "Case",
    "File",
    "Tensor",
    "canonical",
    "case",
    "container",
    "digest",
    "entry",
    "floats",
    "gpt2_base",
    "latent_base",
    "legal",
    "llama_base",
    "mixture_base",
    "neox_base",
    "plain",
    "state_space_base",
    "t5_base",
    "tensor_digest",
    "zeros",
]

Json = dict[str, Any]

ALL_DTYPES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
"""Bytes of one element by dtype."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One vector.

    Attributes:
        name: The name of its folder.
        description: What it shows, in one sentence.
        operation: What the implementation is asked to do.
        input: The fields of the request; files by their names.
        expected: What the answer must be.
        files: The input files.
    """

    name: str
    description: str
    operation: str
    input: Json
    expected: Json
    files: Mapping[str, bytes] = field(default_factory=dict)


def case(name: str, description: str, data: bytes, expected: Json) -> Case:
    """Return a case of the operation ``validate`` on one file."""
    return Case(
        name=name,
        description=description,
        operation="validate",
        input={"path": "input.air"},
        expected=expected,
        files={"input.air": data},
    )


def canonical(value: Any) -> str:
    """Serialise by RFC 8785."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda text: text.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a double as ECMAScript does (ECMA-262, Number::toString)."""
    sign, figures, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # the number is finite
    digits = "".join(map(str, figures))
    point = len(digits) + exponent
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1:+d}"
    return "-" + text if sign and value else text


def digest(data: str | bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest."""
    return "sha256:" + hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@dataclass(frozen=True)
class Tensor:
    """dtype, shape and bytes; ``data`` may contradict them."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def floats(*shape: int, start: float = 1.0, dtype: str = "F32") -> Tensor:
    """Return a tensor that counts up in steps of one half; exact in every floating-point dtype."""
    size = 1
    for length in shape:
        size *= length
    values = [start + index / 2 for index in range(size)]
    if dtype == "BF16":  # the upper half of an F32
        return Tensor(dtype, shape, b"".join(struct.pack("<f", value)[2:] for value in values))
    form = {"F16": "e", "F32": "f", "F64": "d"}[dtype]
    return Tensor(dtype, shape, struct.pack(f"<{size}{form}", *values))


def zeros(dtype: str, *shape: int) -> Tensor:
    """Return a tensor of zero bytes."""
    size = ALL_DTYPES[dtype]
    for length in shape:
        size *= length
    return Tensor(dtype, shape, bytes(size))


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of [name, dtype, shape, hexadecimal sha256] of every tensor, sorted by name."""
    rows = [
        [name, tensors[name].dtype, list(tensors[name].shape), hashlib.sha256(tensors[name].data).hexdigest()]
        for name in sorted(tensors)
    ]
    return digest(canonical(rows))


def container(
    header: Json | str | bytes, data: bytes = b"", *, padding: bool = True, length: int | None = None
) -> bytes:
    """Return length, header and tensor data.

    Args:
        header: The document, or its text or bytes as they shall stand.
        data: The bytes after the header.
        padding: Whether to pad the header with spaces up to 64 bytes.
        length: The length to claim; the true one where absent.
    """
    text = canonical(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    if padding:
        raw += b" " * (-(8 + len(raw)) % 64)
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


@dataclass
class File:
    """A legal AIR file in parts; change the parts, then take ``bytes``.

    Attributes:
        manifest: The manifest without its two digests.
        tensors: The tensors by name.
    """

    manifest: Json
    tensors: dict[str, Tensor]

    def order(self) -> list[str]:
        """Return the names as the tensors follow one another: wide elements first, then by code points."""
        return sorted(self.tensors, key=lambda name: (-ALL_DTYPES[self.tensors[name].dtype], name))

    def sealed(self) -> Json:
        """Return the manifest with its digests."""
        document = {"tensor_digest": tensor_digest(self.tensors), **copy.deepcopy(self.manifest)}
        return {**document, "manifest_digest": digest(canonical(document))}

    def table(self, order: list[str] | None = None) -> Json:
        """Return the tensor table."""
        rows, end = {}, 0
        for name in order or self.order():
            tensor = self.tensors[name]
            offsets = [end, end + len(tensor.data)]
            rows[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
            end = offsets[1]
        return rows

    def header(self, manifest: str | None = None) -> Json:
        """Return the header; ``manifest`` replaces the text of the sealed manifest."""
        text = canonical(self.sealed()) if manifest is None else manifest
        return {"__metadata__": {"air": text}, **self.table()}

    def data(self, order: list[str] | None = None) -> bytes:
        """Return the tensor data."""
        return b"".join(self.tensors[name].data for name in order or self.order())

    def bytes(self, manifest: str | None = None) -> bytes:
        """Return the file."""
        return container(self.header(manifest), self.data())

    def changed(self, change: Callable[[Json], Any]) -> File:
        """Return a copy whose manifest ``change`` was applied to."""
        manifest = copy.deepcopy(self.manifest)
        change(manifest)
        return File(manifest, dict(self.tensors))

    def with_tensors(self, **tensors: Tensor) -> File:
        """Return a copy with other tensors; a dot in a name is written as two underscores."""
        renamed = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        return File(copy.deepcopy(self.manifest), {**self.tensors, **renamed})


def llama_base(**changes: Any) -> Json:
    """Return a base model with grouped-query attention: 4 wide, 2 layers, query heads 4, key-value heads 2 wide."""
    return _base("llama", num_key_value_heads=1, **changes)


def mixture_base(**dimensions: int) -> Json:
    """Return a base model with four experts in a block, of which each is narrower than a dense MLP."""
    sizes = {"num_experts": 4, "expert_intermediate_size": 3, "shared_intermediate_size": 5, **dimensions}
    return _widened(_base("mixtral", num_key_value_heads=1), **sizes)


def latent_base() -> Json:
    """Return a base model with latent attention: heads 5 wide, 2 of that rotated, values 3 wide."""
    sizes = {"head_dim": 5, "value_head_dim": 3, "rotary_head_dim": 2, "query_latent_size": 6}
    return _widened(_base("deepseek_v3", num_key_value_heads=2), **sizes, key_value_latent_size=7)


def state_space_base() -> Json:
    """Return a base model of state-space blocks, which have no heads."""
    base = _base("mamba", num_key_value_heads=1)
    sizes = {"hidden_size": 4, "num_layers": 2, "intermediate_size": 6, "state_size": 3, "time_step_rank": 2}
    return {**base, "stacks": [sizes]}


def _widened(base: Json, **dimensions: int) -> Json:
    (stack,) = base["stacks"]
    return {**base, "stacks": [{**stack, **dimensions}]}


def neox_base() -> Json:
    """Return a base model whose attention is fused, one block per head and role."""
    return _base("gpt_neox", num_key_value_heads=2)


def gpt2_base() -> Json:
    """Return a base model whose attention is fused, one block per role."""
    return _base("gpt2", num_key_value_heads=2)


def t5_base() -> Json:
    """Return a base model of two stacks; the encoder is wider, so that cross attention shows where it reads."""
    base = _base("t5", num_key_value_heads=2)
    (stack,) = base.pop("stacks")
    return {**base, "stacks": [{**stack, "name": "encoder", "hidden_size": 8}, {**stack, "name": "decoder"}]}


def _base(name: str, /, *, num_key_value_heads: int, **changes: Any) -> Json:
    stack = {
        "hidden_size": 4,
        "num_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": num_key_value_heads,
        "head_dim": 2,
        "intermediate_size": 6,
    }
    base = {
        "id": f"example/tiny-{name}",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "architecture": name,
        "model_type": name,
        "config_digest": digest(name),
        "vocab_size": 5,
        "stacks": [stack],
    }
    return {**base, **changes}


def entry(role: str, in_features: int, out_features: int, *, layer: int | None = 0, **fields: Any) -> Json:
    """Return an entry of rank 2 that is named by its place."""
    stack, expert = fields.get("stack"), fields.get("expert")
    place = f"{stack}." if stack else ""
    place += role if layer is None else f"layers.{layer}.{role}"
    place += "" if expert is None else f".experts.{expert}"
    found = {
        "role": role,
        "in_features": in_features,
        "out_features": out_features,
        "rank": 2,
        "scaling": 2,
        "lora_A": f"{place}.lora_A",
        "lora_B": f"{place}.lora_B",
        **({} if layer is None else {"layer": layer}),
    }
    return {**found, **fields}


def legal(base: Json, entries: list[Json], *, dtype: str = "F32", **fields: Any) -> File:
    """Return a legal file: the tensors follow from the entries."""
    tensors = {}
    for index, item in enumerate(entries):
        rank, width_in, width_out = item["rank"], item["in_features"], item["out_features"]
        tensors.setdefault(item["lora_A"], floats(rank, width_in, start=1 + index, dtype=dtype))
        tensors[item["lora_B"]] = floats(width_out, rank, start=2 + index, dtype=dtype)
        for factor in ("magnitude", "bias"):
            if factor in item:
                tensors[item[factor]] = floats(width_out, start=3 + index, dtype=dtype)
    method = {
        "type": "lora",
        "task_type": "CAUSAL_LM",
        "rank": 2,
        "alpha": 4,
        "scaling_rule": "alpha/rank",
        "dropout": 0,
        "bias": "none",
        "dora": False,
    }
    manifest = {
        "air_version": "1.0",
        "kind": "adapter",
        "base_model": base,
        "method": method,
        "entries": entries,
        **fields,
    }
    return File(manifest, tensors)


def plain(**fields: Any) -> File:
    """Return the file that most cases start from: a query and an MLP projection of a Llama's first layer."""
    entries = [
        entry("attention_query", 4, 4, source="model.layers.0.self_attn.q_proj"),
        entry("mlp_up", 4, 6, source="model.layers.0.mlp.up_proj"),
    ]
    return legal(llama_base(), entries, **fields)
