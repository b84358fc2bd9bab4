"""Control adapters: what they keep of the adapter and what they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.handmade import entry, floats, small_adapter
from tests.reference.lora import entry_delta
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor
from ual_registry.errors import TransferError
from ual_registry.evaluation.controls import (
    layer_shuffled,
    random_same_norm,
    refuse_without_effect,
    scaled,
    sign_flipped,
)


def deltas(adapter: Adapter) -> dict[str, np.ndarray]:
    return {own.label: entry_delta(adapter, own) for own in adapter.entries}


@pytest.mark.parametrize("gamma", [-1.0, 0.0, 0.25, 2.0])
def test_a_scaled_adapter_has_the_scaled_update(adapter: Adapter, gamma: float) -> None:
    found = scaled(adapter, gamma)
    assert found.tensors is adapter.tensors
    for label, delta in deltas(adapter).items():
        np.testing.assert_allclose(deltas(found)[label], gamma * delta, rtol=1e-15)


def test_turned_round_it_cancels_the_adapter(adapter: Adapter) -> None:
    turned = deltas(sign_flipped(adapter))
    assert all(np.array_equal(turned[label], -delta) for label, delta in deltas(adapter).items())


def test_a_random_adapter_has_the_norm_of_every_entry_and_no_more(adapter: Adapter) -> None:
    found, expected = deltas(random_same_norm(adapter, 3)), deltas(adapter)
    assert list(found) == list(expected)
    for label, delta in expected.items():
        norm = np.linalg.norm(delta)
        assert np.linalg.norm(found[label]) == pytest.approx(norm, rel=1e-6)  # stored in float32
        assert abs((found[label] * delta).sum()) < 0.8 * norm**2


def test_random_factors_are_shared_where_those_of_the_adapter_are(adapter: Adapter) -> None:
    found = random_same_norm(adapter, 0)
    assert [own.lora_A for own in found.entries] == [own.lora_A for own in adapter.entries]
    assert set(found.tensors) == {name for own in adapter.entries for name in (own.lora_A, own.lora_B)}


def test_a_seed_gives_the_same_random_adapter_and_another_one_another(adapter: Adapter) -> None:
    one, same, other = (deltas(random_same_norm(adapter, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[label], same[label]) for label in one)
    assert not any(np.allclose(one[label], other[label]) for label in one)


def layered(*layers: tuple[int, str, int]) -> Adapter:
    """Return an adapter of (layer, role, rows), the factors of each layer its own."""
    entries, tensors = [], {}
    for layer, role, rows in layers:
        name = f"layers.{layer}.{role}"
        own = entry(role, 4, rows, layer=layer, lora_A=f"{name}.lora_A", lora_B=f"{name}.lora_B", source=name)
        entries.append(own)
        tensors |= {own.lora_A: floats(2, 4, start=layer), own.lora_B: floats(rows, 2, start=2 * layer)}
    manifest = replace(small_adapter().manifest, entries=tuple(entries), extra=())
    return Adapter(manifest, tensors)


@pytest.mark.parametrize(("seed", "expected"), [(0, (1, 2, 0)), (1, (2, 0, 1)), (2, (1, 2, 0))])
def test_shuffled_layers_take_the_factors_of_another_layer(seed: int, expected: tuple[int, ...]) -> None:
    adapter = layered(*((layer, role, rows) for layer in range(3) for role, rows in (("mlp_up", 6), ("mlp_gate", 5))))
    found = layer_shuffled(adapter, seed)
    assert [(own.layer, own.role, own.source) for own in found.entries] == [
        (own.layer, own.role, own.source) for own in adapter.entries
    ]
    assert [(own.lora_A, own.lora_B) for own in found.entries] == [
        (f"layers.{layer}.{role}.lora_A", f"layers.{layer}.{role}.lora_B")
        for layer in expected
        for role in ("mlp_up", "mlp_gate")
    ]


def test_a_layer_without_its_like_keeps_its_own() -> None:
    adapter = layered((0, "mlp_up", 6), (1, "mlp_up", 6), (2, "mlp_up", 5))
    assert [own.lora_B for own in layer_shuffled(adapter, 0).entries] == [
        "layers.1.mlp_up.lora_B",
        "layers.0.mlp_up.lora_B",
        "layers.2.mlp_up.lora_B",
    ]


def zero(own: Entry) -> Tensor:
    return Tensor.of_bytes("F32", (own.out_features, own.rank), bytes(4 * own.out_features * own.rank))


def test_an_adapter_that_was_never_trained_is_refused(adapter: Adapter) -> None:
    untrained = Adapter(
        replace(adapter.manifest, name="fresh"),
        {**adapter.tensors, **{own.lora_B: zero(own) for own in adapter.entries}},
    )
    with pytest.raises(TransferError) as caught:
        refuse_without_effect(untrained)
    assert (caught.value.problem_code, caught.value.message) == (
        "no-effect",
        "the adapter 'fresh' has no effect: lora_B @ lora_A is 0 in every entry",
    )
    one = untrained.entries[0]
    refuse_without_effect(Adapter(untrained.manifest, {**untrained.tensors, one.lora_B: adapter.tensors[one.lora_B]}))
