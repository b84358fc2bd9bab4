"""A tiny base model, another one, and a LoRA adapter for the first, made without any framework in a moment.

The numbers are random, so the adapter does nothing useful; names, shapes and files are those of real ones. The same
call gives the same bytes everywhere, so that the README can show what is printed.

    python -m examples.tiny_adapter tour
"""

from __future__ import annotations

import json
import random
import struct
import sys
from pathlib import Path

from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write_container

__all__ = ["make_tiny_models"]

_BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}
_OTHER = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 96,
    "n_layer": 6,
    "n_head": 6,
    "vocab_size": 320,
}
_RANK = 8
_ADAPTER = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "example/tiny-llama",
    "revision": "0123456789abcdef0123456789abcdef01234567",
    "r": _RANK,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "bias": "none",
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
_SHAPES = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (64, 32),
    "self_attn.v_proj": (64, 32),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (64, 160),
    "mlp.up_proj": (64, 160),
    "mlp.down_proj": (160, 64),
}


def make_tiny_models(folder: Path) -> None:
    """Write ``base/`` and ``other/`` (configs of two base models) and ``adapter/`` (a PEFT adapter for the first).

    Args:
        folder: Where to write; made where it is missing.
    """
    for name, config in (("base", _BASE), ("other", _OTHER)):
        _write_json(folder / name / "config.json", config)
    _write_json(folder / "adapter" / "adapter_config.json", _ADAPTER)
    numbers = random.Random(7)
    tensors = {}
    for layer in range(4):
        for module, (width_in, width_out) in _SHAPES.items():
            path = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{path}.lora_A.weight"] = _tensor(numbers, _RANK, width_in)
            tensors[f"{path}.lora_B.weight"] = _tensor(numbers, width_out, _RANK)
    write_container(folder / "adapter" / "adapter_model.safetensors", tensors, {"format": "pt"})


def _write_json(path: Path, document: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _tensor(numbers: random.Random, rows: int, columns: int) -> Tensor:
    """Make a float32 tensor of shape (rows, columns); multiples of 1/1024, which are exact everywhere."""
    values = [numbers.randrange(-512, 513) / 1024 for _ in range(rows * columns)]
    return Tensor.of_bytes("F32", (rows, columns), struct.pack(f"<{len(values)}f", *values))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "tour")
    make_tiny_models(target)
    print(f"wrote {target}/base, {target}/other and {target}/adapter")
