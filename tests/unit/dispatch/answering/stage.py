"""A tiny base model, and adapters whose answers tell them apart: each one says one letter, over and over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from examples.tiny_encoder import sentences
from tests.ground_truth.materials import LLAMA, RANK, adapter_of, save, strong_model
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.dispatch.calibration import Target
from ual_registry.dispatch.encode import SentenceEncoder
from ual_registry.dispatch.fit import DomainExamples, fit_router
from ual_registry.dispatch.router import Router
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.registry.registry import Registry
from ual_registry.tensors import from_torch

MONEY, FLIGHT = sentences("banking", 1)[0], sentences("travel", 1)[0]
OUT_OF_SCOPE = "moss fox rain"


@dataclass(frozen=True)
class Stage:
    """What dispatchers are made of in tests.

    Attributes:
        folder: Folder of the base model.
        base: The base model.
        encoder: The sentence encoder.
        router: Routes banking to nothing and travel to nothing: adapters are given by reference.
    """

    folder: Path
    base: LoadedBase
    encoder: SentenceEncoder
    router: Router

    def registry(self, home: Path, letters: Iterable[str] = "ABC") -> Registry:
        """Return a registry with an adapter ``letter`` of one revision for every letter; the last is ``live``."""
        registry = Registry.open(home)
        for letter in letters:
            path = home / f"{letter}.air"
            write(letter_adapter(self.base, letter), path)
            registry.add(path, name="letter", aliases=["live"])
        return registry


def make_stage(folder: Path, encoder: SentenceEncoder) -> Stage:
    """Return the stage; its base model is written to a folder."""
    place = save(strong_model("LlamaForCausalLM", LLAMA), folder)
    return Stage(place, load_base_model(place), encoder, make_router(encoder))


def make_router(encoder: SentenceEncoder, adapters: dict[str, str] | None = None) -> Router:
    """Return a router of two domains."""
    domains = [
        DomainExamples(name=name, texts=tuple(sentences(name, 40)), adapter=(adapters or {}).get(name))
        for name in ("banking", "travel")
    ]
    texts = [text for domain in domains for text in domain.texts]
    return fit_router(domains, encoder.encode(texts), encoder.identity, target=Target(kept=1.0)).router


def random_adapter(base: LoadedBase, seed: int, size: float = 0.5) -> Adapter:
    """Return an adapter of every module in the blocks with random factors."""
    generator = torch.Generator().manual_seed(seed)
    modules = [own for own in base.binding.modules.values() if own.slots[0].layer is not None]
    factors = {}
    for module in modules:
        out_features, in_features = module.matrix_shape
        lora_A = torch.randn(RANK, in_features, generator=generator) * in_features**-0.5
        factors[module.path] = (lora_A, size * torch.randn(out_features, RANK, generator=generator))
    return adapter_of(base, modules, factors)


def letter_adapter(base: LoadedBase, letter: str) -> Adapter:
    """Return an adapter under which the model says a letter whatever it reads."""
    token = base.tokenizer.convert_tokens_to_ids(letter)
    found = random_adapter(base, token, 0.01)
    direction = base.model.lm_head.weight[token].detach() / base.model.model.norm.weight.detach()
    entry = max((own for own in found.entries if own.role == "mlp_down"), key=lambda own: own.layer or 0)
    name = entry.lora_B.replace("lora_B", "bias")
    entries = tuple(replace(own, bias=name) if own is entry else own for own in found.entries)
    manifest = replace(found.manifest, entries=entries, features=("lora-bias",), name=letter)
    return Adapter(manifest, {**found.tensors, name: from_torch(1000 * direction, "F32")})


def silent_adapter(base: LoadedBase) -> Adapter:
    """Return an adapter that does nothing."""
    return random_adapter(base, 0, 0.0)
