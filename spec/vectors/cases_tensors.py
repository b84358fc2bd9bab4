"""Tensor names, and the digest of all tensors of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spec.vectors.cases_valid import extra, fused_neox, router
from spec.vectors.craft import Case, File, container, digest, floats, plain, tensor_digest, zeros

__all__ = ["digest_cases", "name_cases"]


def name_cases() -> Iterator[Case]:
    """Yield every case of the operation ``parse_name``."""
    plain_names = [(name, text, (*parts[:3], None, parts[3])) for name, text, parts in _names()]
    for name, text, parts in [*plain_names, *_expert_names()]:
        expected = dict(zip(("stack", "layer", "role", "expert", "factor"), parts, strict=True))
        yield _name(f"name-{name}", "A name that follows the grammar.", text, expected)
    for name, text in _bad_names():
        yield _name(f"name-refused-{name}", "A name that does not follow the grammar.", text, {"code": "tensor-name"})


def _name(name: str, description: str, text: str, expected: dict[str, Any]) -> Case:
    return Case(name=name, description=description, operation="parse_name", input={"name": text}, expected=expected)


def _names() -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    roles = (
        "attention_query",
        "attention_key",
        "attention_value",
        "attention_output",
        "mlp_up",
        "mlp_down",
        "mlp_gate",
        "cross_attention_query",
        "cross_attention_key",
        "cross_attention_value",
        "cross_attention_output",
    )
    for role in roles:
        yield role.replace("_", "-"), f"layers.0.{role}.lora_A", (None, 0, role, "lora_A")
    yield "lora-b", "layers.3.mlp_up.lora_B", (None, 3, "mlp_up", "lora_B")
    yield "magnitude", "layers.3.mlp_up.magnitude", (None, 3, "mlp_up", "magnitude")
    yield "bias", "layers.3.mlp_up.bias", (None, 3, "mlp_up", "bias")
    yield "encoder", "encoder.layers.11.mlp_up.lora_A", ("encoder", 11, "mlp_up", "lora_A")
    yield "decoder", "decoder.layers.0.cross_attention_key.lora_B", ("decoder", 0, "cross_attention_key", "lora_B")
    yield "token-embedding", "token_embedding.lora_A", (None, None, "token_embedding", "lora_A")
    yield "lm-head", "lm_head.lora_B", (None, None, "lm_head", "lora_B")
    yield "outer-in-stack", "encoder.token_embedding.lora_A", ("encoder", None, "token_embedding", "lora_A")
    yield "role-not-in-table", "layers.3.mlp_0.lora_A", (None, 3, "mlp_0", "lora_A")
    yield "role-named-like-a-stack", "encoder.lora_A", (None, None, "encoder", "lora_A")
    yield "role-named-layers", "layers.bias", (None, None, "layers", "bias")
    yield "extra-like-an-entry", "extra.lora_A", (None, None, "extra", "lora_A")
    yield "largest-layer", "layers.999999999.mlp_up.lora_A", (None, 999999999, "mlp_up", "lora_A")


def _expert_names() -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    for role in ("mlp_up", "mlp_down", "mlp_gate"):
        name = f"expert-{role.replace('_', '-')}"
        yield name, f"layers.3.{role}.experts.5.lora_A", (None, 3, role, 5, "lora_A")
    yield "expert-lora-b", "layers.0.mlp_up.experts.0.lora_B", (None, 0, "mlp_up", 0, "lora_B")
    yield "expert-in-stack", "decoder.layers.1.mlp_up.experts.12.bias", ("decoder", 1, "mlp_up", 12, "bias")
    yield "expert-without-layer", "mlp_up.experts.5.lora_A", (None, None, "mlp_up", 5, "lora_A")
    yield "expert-of-any-role", "layers.3.lm_head.experts.5.lora_A", (None, 3, "lm_head", 5, "lora_A")
    yield "expert-of-role-like-a-stack", "encoder.experts.0.lora_A", (None, None, "encoder", 0, "lora_A")
    yield "expert-of-role-named-layers", "layers.experts.5.lora_A", (None, None, "layers", 5, "lora_A")
    yield "expert-of-role-named-experts", "experts.experts.5.lora_A", (None, None, "experts", 5, "lora_A")
    yield "role-named-experts", "layers.3.experts.lora_A", (None, 3, "experts", None, "lora_A")
    yield "largest-expert", "layers.3.mlp_up.experts.999999999.lora_A", (None, 3, "mlp_up", 999999999, "lora_A")


def _bad_names() -> Iterator[tuple[str, str]]:
    yield "expert-leading-zero", "layers.3.mlp_up.experts.05.lora_A"
    yield "expert-too-large", "layers.3.mlp_up.experts.1000000000.lora_A"
    yield "expert-negative", "layers.3.mlp_up.experts.-1.lora_A"
    yield "expert-other-digits", "layers.3.mlp_up.experts.\u0663.lora_A"
    yield "expert-without-word", "layers.3.mlp_up.5.lora_A"
    yield "expert-word-in-singular", "layers.3.mlp_up.expert.5.lora_A"
    yield "expert-without-number", "layers.3.mlp_up.experts.lora_A"
    yield "expert-before-role", "layers.3.experts.5.mlp_up.lora_A"
    yield "expert-without-role", "layers.3.experts.5.lora_A"
    yield "expert-twice", "layers.3.mlp_up.experts.5.experts.5.lora_A"
    yield "expert-before-layer", "experts.5.layers.3.mlp_up.lora_A"
    yield "expert-without-factor", "layers.3.mlp_up.experts.5"
    yield "empty", ""
    yield "only-factor", "lora_A"
    yield "no-factor", "layers.0.mlp_up"
    yield "no-role", "layers.0.lora_A"
    yield "no-layer", "layers.mlp_up.lora_A"
    yield "empty-role", "layers.0..lora_A"
    yield "leading-zero", "layers.03.mlp_up.lora_A"
    yield "negative-layer", "layers.-1.mlp_up.lora_A"
    yield "layer-plus", "layers.+1.mlp_up.lora_A"
    yield "layer-too-large", "layers.1000000000.mlp_up.lora_A"
    yield "layer-other-digits", "layers.\u0663.mlp_up.lora_A"
    yield "layer-space", "layers. 3.mlp_up.lora_A"
    yield "unknown-factor", "layers.3.mlp_up.lora_C"
    yield "factor-case", "layers.3.mlp_up.lora_a"
    yield "role-case", "layers.3.MLP_up.lora_A"
    yield "role-of-words", "layers.3.mlp-up.lora_A"
    yield "stack-case", "Encoder.layers.3.mlp_up.lora_A"
    yield "unknown-stack", "cross.layers.3.mlp_up.lora_A"
    yield "stack-after-layer", "layers.3.encoder.mlp_up.lora_A"
    yield "line-feed", "layers.3.mlp_up.lora_A\n"
    yield "space-before", " layers.3.mlp_up.lora_A"
    yield "dot-after", "layers.3.mlp_up.lora_A."
    yield "weight-suffix", "layers.3.mlp_up.lora_A.weight"
    yield "of-peft", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    yield "extra", "extra.base_model.model.score.weight"
    yield "layer-without-role", "layers.0.bias"
    yield "two-stacks", "decoder.encoder.lm_head.bias"


def digest_cases() -> Iterator[Case]:
    """Yield every case of the operation ``tensor_digest``."""
    for name, description, file in _files():
        expected = {"digest": tensor_digest(file.tensors)}
        yield _digest(name, description, file.bytes(), expected)
    plain_file = plain()
    own = {"digest": tensor_digest(plain_file.tensors)}
    order = list(reversed(plain_file.order()))
    foreign = container({"__metadata__": {"format": "pt"}, **plain_file.table(order)}, plain_file.data(order))
    yield _digest("another-order", "The order in which tensors are stored does not matter.", foreign, own, foreign=True)
    spaced = json.dumps(plain_file.table(), indent=1)
    yield _digest(
        "another-header",
        "The form of the header does not matter.",
        container(spaced, plain_file.data()),
        own,
        foreign=True,
    )
    labelled = plain(name="another manifest").bytes()
    yield _digest("another-manifest", "The manifest does not matter.", labelled, own)
    yield _digest("none", "A file without a tensor.", container({}), {"digest": digest("[]")}, foreign=True)
    whole = plain_file.bytes()
    yield _digest("refused-cut", "A file without its last byte.", whole[:-1], {"code": "truncated"})
    yield _digest("refused-longer", "A file with one byte more.", whole + b"\0", {"code": "trailing-bytes"})
    yield _digest("refused-json", "A header that is no JSON.", container("{"), {"code": "not-json"}, foreign=True)
    row = {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}
    unknown = container({"w": row}, b"1234")
    yield _digest("refused-dtype", "A dtype that is not known.", unknown, {"code": "unknown-dtype"}, foreign=True)


def _files() -> Iterator[tuple[str, str, File]]:
    yield "plain", "Four tensors.", plain()
    yield "shared", "A tensor that entries share counts once.", fused_neox()
    yield "router", "The tensors of a router.", router()
    odd = extra(plain(), scalar=floats(), none=zeros("U8", 0, 3), words=zeros("I64", 2), flags=zeros("BOOL", 3))
    yield "extras", "Extra tensors of other dtypes and shapes count.", odd
    wide = extra(plain(), **{"😀": zeros("U8", 1), "\uff5e": zeros("U8", 2), "é": zeros("U8", 3)})
    yield "sorted-by-code-points", "Tensors are sorted by the code points of their names.", wide


def _digest(name: str, description: str, data: bytes, expected: dict[str, str], *, foreign: bool = False) -> Case:
    file = "input.safetensors" if foreign else "input.air"
    return Case(
        name=f"digest-{name}",
        description=description,
        operation="tensor_digest",
        input={"path": file},
        expected=expected,
        files={file: data},
    )
