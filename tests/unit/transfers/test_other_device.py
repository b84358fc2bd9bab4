"""Transfers between base models that are on another device: fitted there, and the same as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ground_truth.materials import GEMMA3, save, strong_model
from tests.other_device import moved, other_device
from tests.unit.transfers.bases import TEXTS, gpt2, llama
from tests.unit.transfers.test_run_activations import random_adapter
from tests.unit.transfers.test_run_predictions import random_adapter as small_adapter
from tests.unit.transfers.test_run_predictions import writing_tokenizer
from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.tensors import entry_factors
from ual_registry.transfers.effect_material import ResidualOptions
from ual_registry.transfers.layers import LayerRule
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.prediction_fit import PredictionOptions
from ual_registry.transfers.run_activations import run_activations
from ual_registry.transfers.run_predictions import run_predictions
from ual_registry.transfers.run_residual import run_residual
from ual_registry.transfers.run_weights import run_weights
from ual_registry.transfers.statistics_store import StatisticsStore
from ual_registry.transfers.weight_fit import WeightOptions

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

FEW = TEXTS[:4]
SOURCE = Digest.of_bytes(b"source")
Bases = tuple[LoadedBase, LoadedBase]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bases, Bases]:
    """Two bases on the CPU, and the same two elsewhere."""
    made = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("bases")
        gpt2(folder)
        writing_tokenizer().save_pretrained(folder / "gpt2")
        made.append((llama(folder), load_base_model(folder / "gpt2")))
    for base in made[1]:
        moved(base.model)
    return made[0], made[1]


@pytest.fixture(scope="module")
def gemmas(both: tuple[Bases, Bases], tmp_path_factory: pytest.TempPathFactory) -> tuple[Bases, Bases]:
    """To a base with norms behind its modules."""
    folder = save(strong_model("Gemma3ForCausalLM", GEMMA3), tmp_path_factory.mktemp("gemma") / "gemma")
    found = [(own[0], load_base_model(folder)) for own in both]
    moved(found[1][1].model)
    return found[0], found[1]


def assert_same(both: tuple[Bases, Bases], run: Callable[[Bases], Any]) -> None:
    """Compare what a transfer makes on the CPU with what it makes elsewhere, and what it says of it."""
    expected = run(both[0])
    with other_device():
        found = run(both[1])
    assert expected.adapter.entries
    for own, other in zip(products(expected.adapter), products(found.adapter), strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-3, atol=1e-4 * np.abs(own).max())
    assert [item.action for item in found.report.entries] == [item.action for item in expected.report.entries]


def products(adapter: Adapter) -> list[np.ndarray]:
    found = [entry_factors(adapter, entry) for entry in adapter.entries]
    return [(own.lora_B @ own.lora_A).numpy() for own in found]


@pytest.mark.parametrize(
    "options",
    [
        ActivationOptions(gate=-10.0),
        ActivationOptions(gate=-10.0, write=WriteKind.JOINT, layer_map=LayerRule.CKA),
    ],
    ids=["ridge", "joint"],
)
def test_by_activations(both: tuple[Bases, Bases], options: ActivationOptions) -> None:
    adapter = random_adapter(both[0][0])
    plan = make_plan(adapter.manifest, both[0][1].config, target_revision="0" * 40)
    assert_same(both, lambda bases: run_activations(adapter, plan, *bases, FEW, source_digest=SOURCE, options=options))


def test_by_activations_that_are_kept(both: tuple[Bases, Bases], tmp_path: Path) -> None:
    adapter, store = random_adapter(both[0][0]), StatisticsStore(folder=tmp_path)
    plan = make_plan(adapter.manifest, both[0][1].config, target_revision="0" * 40)
    options = ActivationOptions(gate=-10.0)
    assert_same(
        both,
        lambda bases: run_activations(adapter, plan, *bases, FEW, source_digest=SOURCE, options=options, store=store),
    )


@pytest.mark.parametrize("method", ["subspace", "vocab"])
def test_by_weights(both: tuple[Bases, Bases], method: str) -> None:
    adapter = random_adapter(both[0][0])
    plan = make_plan(adapter.manifest, both[0][1].config, target_revision="0" * 40)
    options = WeightOptions()
    assert_same(
        both, lambda bases: run_weights(adapter, plan, *bases, method=method, source_digest=SOURCE, options=options)
    )


@pytest.mark.parametrize("name", ["both", "gemmas"])
def test_by_the_stream(request: pytest.FixtureRequest, name: str) -> None:
    both = request.getfixturevalue(name)
    adapter = small_adapter(both[0][0])
    plan = make_plan(adapter.manifest, both[0][1].config)
    options = ResidualOptions(rank=4, gate=-1.0, roles=("attention_output", "mlp_down"), layers=(0, 1))
    assert_same(both, lambda bases: run_residual(adapter, plan, *bases, FEW, source_digest=SOURCE, options=options))


def test_by_predictions(gemmas: tuple[Bases, Bases]) -> None:
    adapter = small_adapter(gemmas[0][0])
    plan = make_plan(adapter.manifest, gemmas[0][1].config)
    options = PredictionOptions(rank=4, tokens=16, max_rows=100)
    assert_same(
        gemmas, lambda bases: run_predictions(adapter, plan, *bases, FEW, source_digest=SOURCE, options=options)
    )
