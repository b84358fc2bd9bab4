"""Transfers with a known right answer: the target is the source in other coordinates.

Every copy computes the same logits as its original. A way of transfer that finds the coordinates must recover the
whole gain of the adapter; one that pairs feature i with feature i must not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.ground_truth import copies, materials
from tests.ground_truth.conftest import CALIBRATION, TEST, Native
from tests.ground_truth.copies import COPIES, PARTS
from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.projection.contexts import MapKind
from ual_registry.tensors import from_torch, to_torch
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind
from ual_registry.transfers.plan import RotaryPolicy, make_plan
from ual_registry.transfers.run import run_transfer
from ual_registry.transfers.run_activations import run_activations

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

NativeOf = Callable[[str], Native]
CopyOf = Callable[[Native, Callable[[Any], Any]], LoadedBase]
SOURCE = Digest.of_bytes(b"source")
JOINT = ActivationOptions(write=WriteKind.JOINT)

INDEX_COUPLED = ("truncate", "interpolate", "svd")


@pytest.mark.parametrize("name", COPIES)
def test_activations_carry_an_adapter_to_a_copy_and_index_coupled_methods_do_not(
    name: str, native: NativeOf, copy_of: CopyOf
) -> None:
    family, copy = COPIES[name]
    own = native(family)
    target = copy_of(own, copy)
    assert logits_apart(own.loaded, target) < 1e-4  # float32 rounding through two blocks; logits are of size 1
    assert own.before - own.after > 0.5  # a gain worth carrying, in nats per byte

    plan = make_plan(own.adapter.manifest, target.config, rotary=RotaryPolicy.PROJECT)
    assert plan.drop_reasons() == {}  # query and key included
    result = run_activations(own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=JOINT)
    assert own.recovered(target, result.adapter) == pytest.approx(1.0, abs=0.02)

    for method in INDEX_COUPLED:
        index_coupled = run_transfer(own.adapter, plan, method=method, source_digest=SOURCE)
        assert own.recovered(target, index_coupled.adapter) < PARTS.get(name, 0.2)


@pytest.mark.parametrize("write", WriteKind)
@pytest.mark.parametrize(("name", "whitening"), [("neurons permuted", 0.0), ("hidden basis turned", 0.5)])
def test_procrustes_carries_an_adapter_to_a_copy(
    name: str, whitening: float, write: WriteKind, native: NativeOf, copy_of: CopyOf
) -> None:
    """The turned copy has its norms folded as well: that stretches features, which whitening makes up for."""
    family, copy = COPIES[name]
    own = native(family)
    target = copy_of(own, copy)
    plan = make_plan(own.adapter.manifest, target.config)
    options = ActivationOptions(kind=MapKind.PROCRUSTES, whitening=whitening, write=write)
    texts = CALIBRATION[: len(CALIBRATION) // 2]
    result = run_activations(own.adapter, plan, own.loaded, target, texts, source_digest=SOURCE, options=options)
    recovered = own.recovered(target, result.adapter)
    # Orthogonal write maps lose what ridge maps of outputs lose, too: modules may be wider than what they read.
    assert 0.98 < recovered < 1.02 if write == WriteKind.JOINT else 0.85 < recovered < 0.97
    settings = result.report.settings
    assert (settings["maps"], settings["write"], settings["whitening"]) == ("procrustes", write, whitening)
    assert ("penalties" in settings) == (write == WriteKind.JOINT)  # which is a ridge whatever the read map is


def logits_apart(one: LoadedBase, other: LoadedBase) -> float:
    ids = torch.tensor([one.tokenizer(TEST[0])["input_ids"]])
    with torch.no_grad():
        return float((one.model(input_ids=ids).logits - other.model(input_ids=ids).logits).abs().max())


def test_idle_blocks_get_nothing_that_would_add_to_the_stream(native: NativeOf, copy_of: CopyOf) -> None:
    own = native("llama")
    target = copy_of(own, COPIES["depth doubled by idle blocks"][1])
    plan = make_plan(own.adapter.manifest, target.config)
    report = run_activations(
        own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=JOINT
    ).report
    assert set(report.left_out) == {
        f"layers.{layer}.{role}" for layer in (1, 3) for role in ("attention_output", "mlp_down")
    }
    assert report.plan.drop_reasons() == {}  # every entry has another place


def test_an_adapter_of_repeated_key_heads_goes_to_the_one_head_that_they_were(
    native: NativeOf, copy_of: CopyOf, tmp_path: Any
) -> None:
    own = native("llama")
    wide = load_base_model(materials.save(copies.many_keys(own.model), tmp_path / "wide"))
    adapter = with_repeated_keys(own, wide)
    target = copy_of(own, copies.chain(copies.rotated_llama, copies.heads_permuted))

    plan = make_plan(adapter.manifest, target.config)
    result = run_activations(adapter, plan, wide, target, CALIBRATION, source_digest=SOURCE, options=JOINT)
    assert own.recovered(target, result.adapter) == pytest.approx(1.0, abs=0.02)


def with_repeated_keys(own: Native, wide: LoadedBase) -> Adapter:
    """Return the adapter for the copy in which every query head has a key and a value head of its own."""
    entries, tensors = [], dict(own.adapter.tensors)
    for entry in own.adapter.entries:
        if entry.role in {"attention_key", "attention_value"}:
            repeated = copies.spread(to_torch(tensors[entry.lora_B]), 2, own.model.config)
            tensors[entry.lora_B] = from_torch(repeated, "F32")
            entry = replace(entry, out_features=2 * entry.out_features)  # noqa: PLW2901  # the same entry, wider
        entries.append(entry)
    return Adapter(replace(own.adapter.manifest, base_model=wide.base, entries=tuple(entries)), tensors)


def test_write_maps_fitted_to_outputs_alone_lose_what_wide_modules_write_outside_their_span(
    native: NativeOf, copy_of: CopyOf
) -> None:
    """An MLP's up projection has 48 rows and reads 32 features; the adapter writes into all of the rows."""
    own = native("llama")
    target = copy_of(own, copies.rotated_llama)
    plan = make_plan(own.adapter.manifest, target.config)
    alone = run_activations(own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE)
    assert 0.5 < own.recovered(target, alone.adapter) < 0.97


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_source_itself_gets_the_adapter_unchanged(family: str, native: NativeOf, copy_of: CopyOf) -> None:
    own = native(family)
    plan = make_plan(own.adapter.manifest, own.loaded.config)
    result = run_activations(own.adapter, plan, own.loaded, own.loaded, [], source_digest=SOURCE)
    assert result.report.warnings == ("the target is the source: every entry is kept as it is",)
    assert result.report.plan.counts() == {"kept": len(own.adapter.entries), "projected": 0, "dropped": 0}
    assert {name: tensor.to_bytes() for name, tensor in result.adapter.tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in own.adapter.tensors.items()
    }
    assert own.recovered(own.loaded, result.adapter) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_source_under_another_config_gets_the_whole_adapter(family: str, native: NativeOf, copy_of: CopyOf) -> None:
    """Nothing short-cuts the maps here, and features have their places, so that pairing by index is right."""
    own = native(family)
    target = copy_of(own, copies.renamed)
    plan = make_plan(own.adapter.manifest, target.config)
    for options, least in ((JOINT, 0.98), (ActivationOptions(), 0.88)):
        result = run_activations(
            own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=options
        )
        assert result.report.warnings == ()
        assert least < own.recovered(target, result.adapter) < 1.02
    for method in INDEX_COUPLED:
        index_coupled = run_transfer(own.adapter, plan, method=method, source_digest=SOURCE)
        assert own.recovered(target, index_coupled.adapter) == pytest.approx(1.0, abs=1e-5)


def test_folded_norms_alone_are_undone_by_the_read_maps(native: NativeOf, copy_of: CopyOf) -> None:
    own = native("llama")
    target = copy_of(own, copies.folded_llama)
    plan = make_plan(own.adapter.manifest, target.config)
    result = run_activations(own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=JOINT)
    assert own.recovered(target, result.adapter) == pytest.approx(1.0, abs=0.01)
