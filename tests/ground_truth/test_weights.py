"""Transfers by weights alone, with a known right answer: the target is the source in other coordinates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ground_truth import copies, materials
from tests.ground_truth.conftest import Native
from tests.ground_truth.copies import COPIES
from tests.ground_truth.test_copies import SOURCE, with_repeated_keys
from ual_registry.errors import TransferError
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.transfers.plan import RotaryPolicy, make_plan
from ual_registry.transfers.run_weights import WEIGHT_METHODS, run_weights
from ual_registry.transfers.weight_fit import AnchorKind, WeightOptions

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

RANKED = {"neurons permuted": 0.85, "heads permuted": 0.85, "gpt2 turned and permuted": 0.8}
"""At most how much singular vectors keep where they are the same in both, and where signs happen to be alike."""

NativeOf = Callable[[str], Native]
CopyOf = Callable[[Native, Callable[[Any], Any]], LoadedBase]


@pytest.mark.parametrize("name", COPIES)
def test_shared_tokens_carry_an_adapter_to_a_copy_and_singular_vectors_do_not(
    name: str, native: NativeOf, copy_of: CopyOf
) -> None:
    family, copy = COPIES[name]
    own = native(family)
    target = copy_of(own, copy)
    plan = make_plan(own.adapter.manifest, target.config, rotary=RotaryPolicy.PROJECT)
    assert plan.drop_reasons() == {}  # query and key included

    aligned = run_weights(own.adapter, plan, own.loaded, target, method="vocab", source_digest=SOURCE)
    assert aligned.report.warnings == ()
    assert own.recovered(target, aligned.adapter) == pytest.approx(1.0, abs=0.01)  # LayerNorm's offset is not carried

    ranked = run_weights(own.adapter, plan, own.loaded, target, method="subspace", source_digest=SOURCE)
    assert own.recovered(target, ranked.adapter) < RANKED.get(name, 0.3)

    with pytest.raises(TransferError) as caught:
        run_weights(own.adapter, plan, own.loaded, target, method="copy", source_digest=SOURCE)
    assert caught.value.problem_code == "not-one-lineage"


@pytest.mark.parametrize("anchors", AnchorKind)
def test_each_kind_of_anchors_is_enough_for_a_turned_copy(
    anchors: AnchorKind, native: NativeOf, copy_of: CopyOf
) -> None:
    own = native("llama")
    target = copy_of(own, COPIES["all of these"][1])
    plan = make_plan(own.adapter.manifest, target.config)
    found = run_weights(
        own.adapter,
        plan,
        own.loaded,
        target,
        method="vocab",
        source_digest=SOURCE,
        options=WeightOptions(anchors=anchors),
    )
    assert own.recovered(target, found.adapter) == pytest.approx(1.0, abs=0.01)


def test_idle_blocks_get_nothing_that_would_add_to_the_stream(native: NativeOf, copy_of: CopyOf) -> None:
    own = native("llama")
    target = copy_of(own, COPIES["depth doubled by idle blocks"][1])
    plan = make_plan(own.adapter.manifest, target.config)
    report = run_weights(own.adapter, plan, own.loaded, target, method="vocab", source_digest=SOURCE).report
    assert report.left_out == {
        f"layers.{layer}.{role}": "nothing in the target's layer is like what it belongs to"
        for layer in (1, 3)
        for role in ("attention_output", "mlp_down")
    }
    assert report.plan.drop_reasons() == {}  # every entry has another place
    assert report.energy_share == pytest.approx(1.0, rel=1e-6)


def test_an_adapter_of_repeated_key_heads_goes_to_the_one_head_that_they_were(
    native: NativeOf, copy_of: CopyOf, tmp_path: Path
) -> None:
    own = native("llama")
    wide = load_base_model(materials.save(copies.many_keys(own.model), tmp_path / "wide"))
    adapter = with_repeated_keys(own, wide)
    target = copy_of(own, copies.chain(copies.rotated_llama, copies.heads_permuted))
    plan = make_plan(adapter.manifest, target.config)
    found = run_weights(adapter, plan, wide, target, method="vocab", source_digest=SOURCE)
    assert own.recovered(target, found.adapter) == pytest.approx(1.0, abs=0.01)
    assert next(entry.measures for entry in found.report.entries) == pytest.approx(
        {"head_cosine": 1.0, "heads_paired": 1.0}, abs=1e-6
    )


def test_copying_into_a_model_that_was_trained_on_keeps_every_byte(native: NativeOf, copy_of: CopyOf) -> None:
    own = native("llama")

    def trained_on(model: Any) -> Any:
        made = copies.neurons_permuted(model)  # a model of its own
        made.load_state_dict({name: value * 1.01 for name, value in model.state_dict().items()})
        return made

    target = copy_of(own, trained_on)
    plan = make_plan(own.adapter.manifest, target.config)
    found = run_weights(own.adapter, plan, own.loaded, target, method="copy", source_digest=SOURCE)
    assert {name: tensor.to_bytes() for name, tensor in found.adapter.tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in own.adapter.tensors.items()
    }
    assert {entry.target: dict(entry.measures) for entry in found.report.entries} == {
        entry.label: {"lineage_cosine": pytest.approx(1.0, abs=1e-6)} for entry in own.adapter.entries
    }
    assert own.recovered(target, found.adapter) > 0.9


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_source_under_another_config_gets_the_whole_adapter(family: str, native: NativeOf, copy_of: CopyOf) -> None:
    """Nothing short-cuts the maps here; what lies outside the leading singular vectors is lost to ``subspace``."""
    own = native(family)
    target = copy_of(own, copies.renamed)
    plan = make_plan(own.adapter.manifest, target.config)
    for method, least in (("vocab", 0.99), ("copy", 1 - 1e-5), ("subspace", 0.75)):
        found = run_weights(own.adapter, plan, own.loaded, target, method=method, source_digest=SOURCE)
        assert least < own.recovered(target, found.adapter) < 1.01


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_the_source_itself_gets_the_adapter_unchanged(method: str, native: NativeOf) -> None:
    own = native("llama")
    plan = make_plan(own.adapter.manifest, own.loaded.config)
    found = run_weights(own.adapter, plan, own.loaded, own.loaded, method=method, source_digest=SOURCE)
    assert found.report.warnings == ("the target is the source: every entry is kept as it is",)
    assert found.report.plan.counts() == {"kept": len(own.adapter.entries), "projected": 0, "dropped": 0}
    assert own.recovered(own.loaded, found.adapter) == pytest.approx(1.0, abs=1e-6)
