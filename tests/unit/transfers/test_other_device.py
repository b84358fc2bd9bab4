"""Transfers between base models that are on another device: fitted there, and the same as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ground_truth.materials import GEMMA3, save, strong_model
from tests.other_device import moved, other_device
from tests.unit.transfers.bases import GPT2, TEXTS, llama
from tests.unit.transfers.test_run_predictions import random_adapter, writing_tokenizer
from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.tensors import entry_factors
from ual_registry.transfers.effect_material import ResidualOptions
from ual_registry.transfers.layers import LayerRule
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind
from ual_registry.transfers.plan import TransferPlan, make_plan
from ual_registry.transfers.prediction_fit import PredictionOptions
from ual_registry.transfers.run_activations import run_activations
from ual_registry.transfers.run_predictions import run_predictions
from ual_registry.transfers.run_residual import run_residual
from ual_registry.transfers.run_weights import run_weights
from ual_registry.transfers.statistics_store import StatisticsStore

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

FEW = TEXTS[:3]
SOURCE = Digest.of_bytes(b"source")
PARTS = ("attention_q", "mlp_down")  # one that is a part of a module of the target, and one that is a module
WRITERS = ("attention_output", "mlp_down")
TWO = (0.1, 0.01)  # penalties to choose from: all take the same way
Bases = tuple[LoadedBase, LoadedBase]


@dataclass(frozen=True)
class Case:
    """An adapter, and between which bases it goes: on the CPU, and elsewhere."""

    adapter: Adapter
    here: Bases
    there: Bases

    @classmethod
    def of(cls, source: Callable[[], LoadedBase], target: Callable[[], LoadedBase], roles: tuple[str, ...]) -> Case:
        here, there = ((source(), target()) for _ in range(2))
        for base in there:
            moved(base.model)
        return cls(random_adapter(here[0], roles=roles), here, there)

    @property
    def plan(self) -> TransferPlan:
        return make_plan(self.adapter.manifest, self.here[1].config, target_revision="0" * 40)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """To a base whose query, key and value are one module."""
    folder = tmp_path_factory.mktemp("joined")
    llama(folder)
    place = save(strong_model("GPT2LMHeadModel", {**GPT2, "n_layer": 2}), folder / "gpt2")
    writing_tokenizer().save_pretrained(place)
    return Case.of(lambda: load_base_model(folder / "llama"), lambda: load_base_model(place), PARTS)


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """To a base with norms behind its modules."""
    folder = tmp_path_factory.mktemp("normed")
    llama(folder)
    place = save(strong_model("Gemma3ForCausalLM", GEMMA3), folder / "gemma")
    return Case.of(lambda: load_base_model(folder / "llama"), lambda: load_base_model(place), WRITERS)


def assert_same(case: Case, run: Callable[[Bases], Any]) -> None:
    """Compare what a transfer makes on the CPU with what it makes elsewhere, and what it says of it."""
    expected = run(case.here)
    with other_device():
        found = run(case.there)
    assert expected.adapter.entries
    for own, other in zip(products(expected.adapter), products(found.adapter), strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-3, atol=1e-4 * np.abs(own).max())
    assert [item.action for item in found.report.entries] == [item.action for item in expected.report.entries]


def products(adapter: Adapter) -> list[np.ndarray]:
    found = [entry_factors(adapter, entry) for entry in adapter.entries]
    return [(own.lora_B @ own.lora_A).numpy() for own in found]


def test_by_activations_that_are_kept(joined: Case, tmp_path: Path) -> None:
    options, store = ActivationOptions(gate=-10.0, penalties=TWO), StatisticsStore(folder=tmp_path)

    def run(bases: Bases) -> Any:
        return run_activations(
            joined.adapter, joined.plan, *bases, FEW, source_digest=SOURCE, options=options, store=store
        )

    assert_same(joined, run)


def test_by_activations_and_gradients(joined: Case) -> None:
    options = ActivationOptions(gate=-10.0, penalties=TWO, write=WriteKind.JOINT, layer_map=LayerRule.CKA)

    def run(bases: Bases) -> Any:
        return run_activations(joined.adapter, joined.plan, *bases, FEW, source_digest=SOURCE, options=options)

    assert_same(joined, run)


@pytest.mark.parametrize("method", ["subspace", "vocab"])
def test_by_weights(joined: Case, method: str) -> None:
    def run(bases: Bases) -> Any:
        return run_weights(joined.adapter, joined.plan, *bases, method=method, source_digest=SOURCE)

    assert_same(joined, run)


def test_by_the_stream(normed: Case) -> None:
    options = ResidualOptions(rank=4, gate=-1.0, roles=WRITERS, layers=(1,), penalties=TWO, map_penalties=TWO)

    def run(bases: Bases) -> Any:
        return run_residual(normed.adapter, normed.plan, *bases, FEW, source_digest=SOURCE, options=options)

    assert_same(normed, run)


def test_by_predictions(normed: Case) -> None:
    options = PredictionOptions(rank=4, tokens=8, max_rows=60, penalties=TWO)

    def run(bases: Bases) -> Any:
        return run_predictions(normed.adapter, normed.plan, *bases, FEW, source_digest=SOURCE, options=options)

    assert_same(normed, run)
