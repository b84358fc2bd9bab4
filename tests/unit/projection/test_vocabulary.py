"""Streams aligned by shared tokens, and neurons matched by what they read and write."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import isometry, moments_of, random_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.maps import Direction, LinearMap, held_out_r2, ridge
from ual_registry.projection.vocabulary import Anchors, NeuronPairs, match_neurons, neuron_map, stream_maps

LAWS = settings(max_examples=20, deadline=None)


def test_one_of_five_anchors_is_held_out() -> None:
    x, y = random_rows(11, 3), random_rows(11, 2, seed=1)
    found = Anchors.of(x, y)
    held_out = [4, 9]
    fit = [index for index in range(11) if index not in held_out]
    for moments, chosen in ((found.fit, fit), (found.held_out, held_out)):
        expected = moments_of(x[chosen], y[chosen]).centred()
        torch.testing.assert_close(moments.centred().xy, expected.xy)
        assert moments.count == len(chosen)
    few = Anchors.of(x[:2], y[:2])
    assert (few.fit.count, few.held_out.count) == (1, 1)


def test_anchors_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(NumericalError) as caught:
        Anchors.of(random_rows(1, 3), random_rows(1, 2))
    assert caught.value.message == "1 shared tokens: expected at least two, one of them held out"
    damaged = random_rows(10, 3)
    damaged[4, 0] = float("nan")
    damaged[7, 2] = float("inf")
    with pytest.raises(NumericalError) as caught:
        Anchors.of(damaged, random_rows(10, 2))
    assert caught.value.message == "rows of 2 shared tokens are not finite"


@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True)])
def test_a_turned_stream_is_turned_back(parts: tuple[bool, bool]) -> None:
    turn = isometry(7, 5)
    embedding, unembedding = random_rows(60, 5), random_rows(60, 5, seed=1)
    maps = stream_maps(
        Anchors.of(embedding, embedding @ turn.T) if parts[0] else None,
        Anchors.of(unembedding, unembedding @ turn.T) if parts[1] else None,
        penalties=(1e-9, 0.1),
    )
    torch.testing.assert_close(maps.to_target, turn, atol=1e-6, rtol=0)
    torch.testing.assert_close(maps.to_source, turn.T, atol=1e-6, rtol=0)
    assert maps.r2 == pytest.approx((1.0, 1.0), abs=1e-9)
    assert maps.penalties == (1e-9, 1e-9)


def test_output_tables_alone_are_fitted_the_other_way_round() -> None:
    x, y = random_rows(60, 5), random_rows(60, 4, seed=1)
    anchors = Anchors.of(x, y)
    maps = stream_maps(None, anchors, penalties=(0.5,))
    expected = ridge(anchors.fit, penalty=0.5, direction=Direction.Y_TO_X, centred=False)
    torch.testing.assert_close(maps.to_target, expected.matrix.T)
    bare = LinearMap(matrix=expected.matrix, bias=expected.bias)
    assert maps.r2[0] == pytest.approx(held_out_r2(bare, anchors.held_out, direction=Direction.Y_TO_X))


def test_no_table_at_all_is_refused() -> None:
    with pytest.raises(NumericalError) as caught:
        stream_maps(None, None, penalties=(0.1,))
    assert caught.value.message == "anchors: expected rows of embeddings, of output tables, or of both"


def neurons(count: int, names: tuple[str, ...], *, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: random_rows(count, 8, seed=seed + at) - 1.0 for at, name in enumerate(names)}


@LAWS
@given(st.integers(2, 12), st.booleans(), st.integers(0, 99))
def test_neurons_are_found_again_in_another_order_and_size(count: int, is_gated: bool, seed: int) -> None:
    own = neurons(count, ("gate", "up", "down") if is_gated else ("up", "down"), seed=seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    sizes = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
    sizes = torch.where(torch.arange(count) % 2 == 1, -sizes, sizes) if is_gated else sizes
    other = {
        name: rows[order] if name == "gate" else rows[order] * (sizes if name == "up" else 1 / sizes)[:, None]
        for name, rows in own.items()
    }
    pairs = match_neurons(own, other)
    assert dict(zip(pairs.target.tolist(), pairs.source.tolist(), strict=True)) == dict(enumerate(order.tolist()))
    torch.testing.assert_close(pairs.cosines, torch.ones(count, dtype=torch.float64))
    for name in own:
        torch.testing.assert_close(neuron_map(pairs, own[name], other[name]) @ own[name], other[name])
        torch.testing.assert_close(neuron_map(pairs.swapped(), other[name], own[name]) @ other[name], own[name])


def test_more_neurons_than_there_are_to_match_get_nothing() -> None:
    own = neurons(3, ("up", "down"))
    other = {name: torch.cat([random_rows(2, 8, seed=9) - 1.0, rows]) for name, rows in own.items()}
    pairs = match_neurons(own, other)
    assert (pairs.source.tolist(), pairs.target.tolist()) == ([0, 1, 2], [2, 3, 4])
    found = neuron_map(pairs, own["up"], other["up"])
    torch.testing.assert_close(found, torch.eye(5, 3, dtype=torch.float64).roll(2, 0))
    back = match_neurons(other, own)
    assert (back.source.tolist(), back.target.tolist()) == ([2, 3, 4], [0, 1, 2])


def test_a_gate_that_one_side_lacks_does_not_count() -> None:
    own = neurons(4, ("gate", "up", "down"))
    other = {name: own[name] for name in ("up", "down")}
    assert match_neurons(own, other).cosines.tolist() == pytest.approx([1.0] * 4)


def test_neurons_that_are_not_alike_enough_are_left_out() -> None:
    own, other = neurons(6, ("up", "down")), neurons(6, ("up", "down"), seed=20)
    every = match_neurons(own, other, gate=-1.0)
    gate = float(every.cosines.median())
    kept = match_neurons(own, other, gate=gate)
    assert kept.cosines.tolist() == every.cosines[every.cosines > gate].tolist()


def test_a_neuron_that_hardly_is_like_another_carries_little() -> None:
    pairs = NeuronPairs(source=torch.tensor([0]), target=torch.tensor([1]), cosines=torch.tensor([0.1]))
    own, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.2, 5.0]])
    torch.testing.assert_close(neuron_map(pairs, own, other), torch.tensor([[0.0], [0.2]]))
    assert not neuron_map(pairs, own * 0, other).any()


def test_neurons_without_common_parts_are_refused() -> None:
    for other in ({}, {"gate": random_rows(3, 8)}, {"up": random_rows(3, 5)}):
        with pytest.raises(ShapeError) as caught:
            match_neurons(neurons(3, ("up", "down")), other)
        assert caught.value.message == "neurons: expected parts of common names and widths"
