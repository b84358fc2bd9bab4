"""Adapters with random factors in a registry, and PEFT that switches from one to the next."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Manifest, Method
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.air.write import write
from ual_registry.dispatch.generate import Generator
from ual_registry.models.loaded import LoadedBase
from ual_registry.registry.registry import Registry
from ual_registry.tensors import from_torch
from ual_registry.workflows.engines import convert_to_vllm

__all__ = ["fill_registry", "peft_switching"]

_RANK = 8
_ROLES = ("attention_query", "attention_value")
_SIZE = 0.3
"""Of the numbers in lora_B: enough for other words, and not for a broken model."""


def fill_registry(base: LoadedBase, folder: Path, count: int) -> tuple[Registry, list[str]]:
    """Return a registry with so many adapters of a base model, and their names."""
    registry = Registry.open(folder / "home")
    names = [f"adapter-{number:03d}" for number in range(count)]
    for number, name in enumerate(names):
        path = folder / f"{name}.air"
        write(_random_adapter(base, number), path)
        registry.add(path, name=name)
        path.unlink()
    return registry, names


def peft_switching(
    base: LoadedBase, registry: Registry, asked: Mapping[str, str], tokens: int, folder: Path
) -> Callable[[], list[str]]:
    """Return what answers queries with PEFT, one adapter after the other, likeliest tokens first.

    Args:
        base: The base model; PEFT gets a copy.
        registry: Where the adapters are.
        asked: Query by name of the adapter.
        tokens: Tokens of an answer, at most.
        folder: Where PEFT's folders are written.
    """
    names = list(asked)
    folder.mkdir()
    for name in names:
        convert_to_vllm(registry.find(str(registry.resolve(name))), folder / name)
    wrapped: Any = PeftModel.from_pretrained(copy.deepcopy(base.model), folder / names[0], adapter_name=names[0])
    for name in names[1:]:
        wrapped.load_adapter(folder / name, adapter_name=name)
    generator, tokenizer = Generator(base), base.text_tokenizer
    prompts = [generator.prompt_ids(query) for query in asked.values()]

    def answers() -> list[str]:
        found = []
        for name, prompt in zip(names, prompts, strict=True):
            wrapped.set_adapter(name)
            ids = torch.tensor([prompt])
            with torch.inference_mode():
                made = wrapped.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
                )
            found.append(tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True))
        return found

    return answers


def _random_adapter(base: LoadedBase, seed: int) -> Adapter:
    """Return an adapter of query and value of every block."""
    generator = torch.Generator().manual_seed(seed)
    entries: list[Entry] = []
    tensors: dict[str, Tensor] = {}
    for module in base.binding.modules.values():
        for slot in module.slots:
            if slot.role not in _ROLES or slot.layer is None:
                continue
            names = {factor: slot.tensor_name(factor) for factor in ("lora_A", "lora_B")}
            factor_A = torch.randn(_RANK, slot.in_features, generator=generator) * slot.in_features**-0.5
            factor_B = torch.randn(slot.out_features, _RANK, generator=generator) * _SIZE
            tensors |= {names["lora_A"]: from_torch(factor_A, "F32"), names["lora_B"]: from_torch(factor_B, "F32")}
            entries.append(slot.entry(source=module.path, rank=_RANK, scaling=1.0, **names))
    method = Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=_RANK,
        alpha=float(_RANK),
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=base.base,
        method=method,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        name=f"random {seed}",
    )
    return Adapter(manifest, tensors)
