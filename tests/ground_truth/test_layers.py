"""Layer maps with a known right answer: blocks that add nothing stand where depth alone does not expect them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ground_truth import copies, materials
from tests.ground_truth.conftest import CALIBRATION, Native
from tests.ground_truth.test_copies import JOINT, SOURCE
from ual_registry.air.adapter import Adapter
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.transfers.layers import LayerChoice, LayerPolicy, LayerRule
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run_activations import run_activations
from ual_registry.transfers.run_weights import run_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

NativeOf = Callable[[str], Native]
CopyOf = Callable[[Native, Callable[[Any], Any]], LoadedBase]


def test_likeness_finds_the_layers_where_depth_does_not(native: NativeOf, copy_of: CopyOf) -> None:
    own = native("llama")
    target = copy_of(own, copies.chain(copies.rotated_llama, copies.spaced(None, None, 0, 1)))
    plan = make_plan(own.adapter.manifest, target.config)

    def carried(**changes: Any) -> tuple[tuple[int, ...], float]:
        options = replace(JOINT, **changes)
        found = run_activations(
            own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=options
        )
        (layers,) = found.report.plan.layers.values()
        return layers, own.recovered(target, found.adapter)

    layers, by_depth = carried()
    assert layers == (0, 0, 1, 1)
    assert by_depth < 0.6
    layers, by_likeness = carried(layer_map=LayerRule.CKA)
    assert layers == (0, 0, 0, 1)
    assert by_likeness == pytest.approx(1.0, abs=0.02)


def test_pooling_carries_the_layers_that_a_shallower_target_does_not_name(
    native: NativeOf, copy_of: CopyOf, tmp_path: Path
) -> None:
    """The source's blocks 1 and 3 are idle, and the target's layer 1 is the source's 2; by depth it asks for 3."""
    own = native("llama")
    deep = load_base_model(materials.save(copies.doubled(own.model), tmp_path / "deep"))
    entries = [replace(entry, layer=2 * (entry.layer or 0)) for entry in own.adapter.entries]
    adapter = Adapter(replace(own.adapter.manifest, base_model=deep.base, entries=tuple(entries)), own.adapter.tensors)
    target = copy_of(own, copies.chain(copies.rotated_llama, copies.neurons_permuted, copies.heads_permuted))

    picked, pooled = (
        make_plan(adapter.manifest, target.config, layers=LayerChoice(policy=policy)) for policy in LayerPolicy
    )
    assert (picked.layers, picked.pools) == ({None: (0, 3)}, {})
    assert (pooled.layers, pooled.pools) == ({None: (0, 3)}, {None: ((0, 1), (2, 3))})
    assert picked.drop_reasons() == {"the layer map picks other layers": 7}
    assert pooled.drop_reasons() == {}

    def recovered(plan: Any) -> float:
        found = run_weights(adapter, plan, deep, target, method="vocab", source_digest=SOURCE)
        return own.recovered(target, found.adapter)

    assert recovered(picked) < 0.8
    assert recovered(pooled) == pytest.approx(1.0, abs=0.01)
    result = run_activations(
        adapter,
        picked,
        deep,
        target,
        CALIBRATION,
        source_digest=SOURCE,
        options=replace(JOINT, policy=LayerPolicy.POOL),
    )
    assert result.report.plan.pools == pooled.pools
    assert own.recovered(target, result.adapter) == pytest.approx(1.0, abs=0.02)
