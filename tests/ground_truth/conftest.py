"""A trained adapter on every tiny base model, and what it gains there; made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth import materials
from ual_registry.air.adapter import Adapter
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase, load_base_model

FAMILIES: dict[str, tuple[Any, ...]] = {
    "llama": ("LlamaForCausalLM", materials.LLAMA),
    "gpt2": ("GPT2LMHeadModel", materials.GPT2),
    "gemma3": ("Gemma3ForCausalLM", materials.GEMMA3),
    "calm gemma3": ("Gemma3ForCausalLM", materials.GEMMA3, 32**-0.5),  # logits of size 1, as a trained model has them
}
IS_WHOLE = bool(os.environ.get("UAL_PROOF_ALL"))
"""Whether every family and copy is tried with everything, as ``make proof`` asks."""

CALIBRATION = materials.sentences(2, 40)
TEST = materials.sentences(3, 8)


@dataclass(frozen=True)
class Native:
    """A base model, an adapter trained on it, and what it gains.

    Attributes:
        model: The transformers model.
        loaded: The same, loaded from its folder.
        adapter: The adapter.
        before: Nats per byte of the test text without it.
        after: The same with it.
    """

    model: Any
    loaded: LoadedBase
    adapter: Adapter
    before: float
    after: float

    def recovered(self, target: LoadedBase, adapter: Adapter) -> float:
        """Return the share of the gain that an adapter for a copy gains there."""
        with attach(target.model, adapter):
            return (self.before - loss(target)) / (self.before - self.after)


def loss(loaded: LoadedBase) -> float:
    """Return the nats per byte of the test text."""
    with torch.no_grad():
        return float(materials.nll(loaded.model, loaded.tokenizer, TEST))


@pytest.fixture(scope="session")
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # handing such small products to another thread takes longer than computing them
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory, threads: None) -> Callable[[str], Native]:
    """Return the base model of a family with its adapter."""
    made: dict[str, Native] = {}

    def get(family: str) -> Native:
        if family not in made:
            model = materials.strong_model(*FAMILIES[family])
            loaded = load_base_model(materials.save(model, tmp_path_factory.mktemp("base") / family))
            adapter = materials.trained_adapter(loaded, materials.sentences(1, 80), steps=30)
            before = loss(loaded)
            with attach(loaded.model, adapter):
                after = loss(loaded)
            made[family] = Native(model, loaded, adapter, before, after)
        return made[family]

    return get


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Native, Callable[[Any], Any]], LoadedBase]:
    """Make a copy of a base model, loaded from a folder of its own."""

    def make(native: Native, copy: Callable[[Any], Any]) -> LoadedBase:
        return load_base_model(materials.save(copy(native.model), tmp_path / "copy"))

    return make
