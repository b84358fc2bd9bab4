"""Tensor names of PEFT: a module path and a factor, and back (peft 0.21, ``save_pretrained``)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PREFIX", "PeftName", "join_name", "split_name"]

PREFIX = "base_model.model."
"""Before every tensor name of a PEFT file."""

_SUFFIXES = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_B.bias": "bias",
    ".lora_magnitude_vector": "magnitude",
    ".lora_embedding_A": "lora_A",
    ".lora_embedding_B": "lora_B",
}
_LINEAR = {"lora_A": ".lora_A.weight", "lora_B": ".lora_B.weight"}
_EMBEDDING = {"lora_A": ".lora_embedding_A", "lora_B": ".lora_embedding_B"}
_COMMON = {"bias": ".lora_B.bias", "magnitude": ".lora_magnitude_vector"}


@dataclass(frozen=True, slots=True)
class PeftName:
    """A target module and which of its factors a tensor is."""

    path: str
    factor: str


def split_name(name: str) -> PeftName | None:
    """Split a tensor name; ``None`` where it names no LoRA factor.

    >>> split_name("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
    PeftName(path='model.layers.0.mlp.up_proj', factor='lora_A')
    """
    for suffix, factor in _SUFFIXES.items():
        if name.endswith(suffix):
            return PeftName(name.removeprefix(PREFIX).removesuffix(suffix), factor)
    return None


def join_name(path: str, factor: str, *, is_embedding: bool = False) -> str:
    """Return the tensor name of a factor; the inverse of ``split_name``."""
    suffix = _COMMON.get(factor) or (_EMBEDDING if is_embedding else _LINEAR)[factor]
    return f"{PREFIX}{path}{suffix}"
