"""The rules by which layers correspond."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ual_registry.errors import TransferError
from ual_registry.transfers.layers import LayerChoice, LayerPolicy, LayerRule, layer_map, layer_pools, monotone_map

DEPTHS = st.integers(1, 6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_the_monotone_map_is_the_best_of_all_maps_in_order(source: int, target: int, data: st.DataObject) -> None:
    likeness = st.lists(st.integers(0, 3), min_size=target, max_size=target)
    similarity = data.draw(st.lists(likeness, min_size=source, max_size=source))
    wanted = layer_map(source, target)

    def worth(layers: tuple[int, ...]) -> tuple[int, int]:
        total = sum(similarity[layer][place] for place, layer in enumerate(layers))
        return total, -sum((layer - depth) ** 2 for layer, depth in zip(layers, wanted, strict=True))

    every = combinations_with_replacement(range(source), target)
    found = monotone_map([[float(value) for value in row] for row in similarity], tolerance=1.0)
    assert list(found) == sorted(found)
    assert worth(found) == max(worth(layers) for layers in every)


@given(DEPTHS, DEPTHS, st.integers(-100, 100))
def test_layers_that_are_nearly_alike_are_mapped_by_depth(source: int, target: int, steps: int) -> None:
    similarity = [[steps / 100 + 0.0005 * (layer - place) for place in range(target)] for layer in range(source)]
    assert monotone_map(similarity) == layer_map(source, target)


@given(DEPTHS, DEPTHS)
def test_pools_hold_every_source_layer_and_every_pick(source: int, target: int) -> None:
    picks = layer_map(source, target)
    pools = layer_pools(picks, source)
    assert {layer for pool in pools for layer in pool} == set(range(source))
    assert all(pick in pool for pick, pool in zip(picks, pools, strict=True))
    assert all(list(pool) == sorted(set(pool)) for pool in pools)


@given(DEPTHS, DEPTHS)
def test_shares_of_a_source_layer_add_up_to_one(source: int, target: int) -> None:
    stack = LayerChoice(policy=LayerPolicy.POOL).of_stack(None, source, target)
    shares = dict.fromkeys(range(source), 0.0)
    for layer in range(target):
        for own, share in stack.sources(layer):
            shares[own] += share
    assert shares == pytest.approx(dict.fromkeys(range(source), 1.0))


def test_a_layer_beyond_the_map_has_no_source() -> None:
    stack = LayerChoice().of_stack(None, 2, 3)
    assert [stack.sources(layer) for layer in range(4)] == [((0, 1.0),), ((1, 1.0),), ((1, 1.0),), ()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "guess"}, "layer rule 'guess': expected one of proportional, cka"),
        ({"policy": "mix"}, "layer policy 'mix': expected one of pick, pool"),
    ],
)
def test_names_that_mean_nothing_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        LayerChoice(**changes)
    assert (caught.value.message, caught.value.problem_code) == (message, "bad-option")


@pytest.mark.parametrize("found", [(0, 1), (0, 1, 2, 3), (0, 1, 4), (0, -1, 1)])
def test_a_map_of_other_depths_is_refused(found: tuple[int, ...]) -> None:
    with pytest.raises(TransferError) as caught:
        LayerChoice(rule=LayerRule.CKA, found={"decoder": found}).of_stack("decoder", 4, 3)
    assert (caught.value.message, caught.value.problem_code) == (
        f"layer map of decoder: expected 3 layers from 0 to 3, got {list(found)}",
        "bad-layer-map",
    )


@pytest.mark.parametrize("similarity", [[], [[]], [[1.0], [1.0, 2.0]], [[float("nan")]], [[float("inf")]]])
def test_a_similarity_that_is_no_finite_matrix_is_refused(similarity: list[list[float]]) -> None:
    with pytest.raises(TransferError) as caught:
        monotone_map(similarity)
    assert caught.value.message == (
        "layer similarity: expected finite numbers, a row for every source layer and a column for every target layer"
    )
