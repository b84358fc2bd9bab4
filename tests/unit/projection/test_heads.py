"""Heads of two attentions: pairs, and the maps between their rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import isometry, random_rows
from ual_registry.errors import ShapeError
from ual_registry.projection.heads import (
    Attention,
    HeadPairs,
    Heads,
    key_map,
    output_map,
    pair_heads,
    query_map,
    value_map,
)

WIDTH = 12
LAWS = settings(max_examples=20, deadline=None)


def heads(*, queries: int = 4, groups: int = 2, width: int = 4, style: str = "none", rotated: int = 0) -> Heads:
    return Heads.of(
        queries=queries, groups=groups, width=width, value_width=width, style=style, rotated=rotated or width
    )


def attention(layout: Heads, *, seed: int = 0) -> Attention:
    rows = [layout.queries * layout.width, layout.groups * layout.width, layout.groups * layout.value_width]
    query, key, value = (random_rows(count, WIDTH, seed=seed + at) - 1.0 for at, count in enumerate(rows))
    output = random_rows(WIDTH, layout.queries * layout.value_width, seed=seed + 3) - 1.0
    return Attention(heads=layout, query=query, key=key, value=value, output=output)


def block_diagonal(blocks: list[torch.Tensor]) -> torch.Tensor:
    return torch.block_diag(*blocks)


def repeated(blocks: list[torch.Tensor], members: int) -> list[torch.Tensor]:
    return [block for block in blocks for _ in range(members)]


def changed(own: Attention, keys: list[torch.Tensor], values: list[torch.Tensor]) -> Attention:
    """Return the same attention with other features in its heads, one matrix for the key and the value of a group."""
    members = own.heads.members
    inverse = [torch.linalg.inv(item).T for item in keys]
    outputs = [torch.linalg.inv(item) for item in values]
    return Attention(
        heads=own.heads,
        query=block_diagonal(repeated(inverse, members)) @ own.query,
        key=block_diagonal(keys) @ own.key,
        value=block_diagonal(values) @ own.value,
        output=own.output @ block_diagonal(repeated(outputs, members)),
    )


@pytest.mark.parametrize(
    ("style", "rotated", "pairs"),
    [
        ("none", 8, ()),
        ("half", 8, ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("half", 4, ((0, 2), (1, 3))),
        ("interleaved", 8, ((0, 1), (2, 3), (4, 5), (6, 7))),
        ("interleaved", 4, ((0, 1), (2, 3))),
    ],
)
def test_the_style_says_which_features_rotate_together(
    style: str, rotated: int, pairs: tuple[tuple[int, int], ...]
) -> None:
    found = Heads.of(queries=4, groups=2, width=8, value_width=6, style=style, rotated=rotated)
    assert found == Heads(queries=4, groups=2, width=8, value_width=6, rotary=pairs)
    assert found.members == 2


@pytest.mark.parametrize("groups", [0, 3])
def test_heads_that_cannot_be_shared_out_are_refused(groups: int) -> None:
    with pytest.raises(ShapeError) as caught:
        Heads.of(queries=4, groups=groups, width=8, value_width=8, style="none", rotated=0)
    assert caught.value.message == f"4 query heads cannot be shared out among {groups} key-value heads"


def test_heads_are_found_again_in_another_order_and_other_features() -> None:
    own = attention(heads(groups=4))
    turns = [3.0 * isometry(4, 4, seed=seed) for seed in range(8)]
    order = torch.tensor([2, 0, 3, 1])
    rows = (order[:, None] * 4 + torch.arange(4)).flatten()
    other = changed(own, turns[:4], turns[4:])
    other = Attention(
        heads=own.heads,
        query=other.query[rows],
        key=other.key[rows],
        value=other.value[rows],
        output=other.output[:, rows],
    )
    pairs = pair_heads(own, other)
    assert dict(zip(pairs.target, pairs.source, strict=True)) == dict(enumerate(order.tolist()))
    assert pairs.cosines == pytest.approx((1.0,) * 4, rel=1e-12)
    torch.testing.assert_close(query_map(pairs, own, other) @ own.query, other.query)
    torch.testing.assert_close(key_map(pairs, own, other) @ own.key, other.key)
    torch.testing.assert_close(value_map(pairs, own, other) @ own.value, other.value)
    torch.testing.assert_close(own.output @ output_map(pairs, own, other), other.output)


@pytest.mark.parametrize(("style", "rotated"), [("half", 4), ("half", 2), ("interleaved", 4), ("interleaved", 2)])
def test_what_rotates_together_is_turned_together(style: str, rotated: int) -> None:
    layout = heads(style=style, rotated=rotated)
    own = attention(layout)
    turns = []
    for group in range(layout.groups):
        turn = isometry(4, 4, seed=group) if rotated < 4 else torch.zeros(4, 4, dtype=torch.float64)
        rest = [feature for feature in range(4) if feature >= rotated]
        mixed = torch.zeros(4, 4, dtype=torch.float64)
        if rest:
            mixed[2:, 2:] = isometry(2, 2, seed=group)
        for index, (p, q) in enumerate(layout.rotary):
            angle, size = 0.7 + group + index, 1.5 + index
            mixed[p, p] = mixed[q, q] = size * math.cos(angle)
            mixed[q, p] = size * math.sin(angle)
            mixed[p, q] = -mixed[q, p]
        turns.append(mixed if rest else turn + mixed)
    other = changed(own, turns, [torch.eye(4, dtype=torch.float64)] * layout.groups)
    pairs = pair_heads(own, other)
    assert pairs.source == pairs.target == (0, 1, 2, 3)
    torch.testing.assert_close(key_map(pairs, own, other), block_diagonal(turns))
    torch.testing.assert_close(query_map(pairs, own, other) @ own.query, other.query)


@pytest.mark.parametrize("speeds", [(1.0,), (1.0, 0.1, 0.01), (1.0, 0.0)])
def test_speeds_that_do_not_fit_the_pairs_are_refused(speeds: tuple[float, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        Heads.of(queries=4, groups=4, width=4, value_width=4, style="half", rotated=4, speeds=speeds)
    assert caught.value.message == f"speeds {speeds}: expected one above 0 for each of 2 pairs"


def test_pairs_go_to_those_of_the_nearest_speed() -> None:
    layout = heads(style="half")
    own, other = (
        attention(replace(layout, speeds=speeds), seed=seed) for speeds, seed in (((1.0, 0.01), 0), ((0.02, 0.9), 10))
    )
    found = query_map(pair_heads(own, other, gate=-1.0 + 1e-9), own, other).reshape(4, 2, 2, 4, 2, 2)
    # Head, half, pair on both sides: the first pair of the target turns as the second of the source does.
    assert not found[:, :, 0, :, :, 0].any()
    assert not found[:, :, 1, :, :, 1].any()
    assert found[:, :, 0, :, :, 1].any()
    assert found[:, :, 1, :, :, 0].any()


def test_other_frequencies_are_never_mixed() -> None:
    own, other = attention(heads(style="half")), attention(heads(style="half"), seed=10)
    found = query_map(pair_heads(own, other, gate=-1.0 + 1e-9), own, other).reshape(4, 2, 2, 4, 2, 2)
    # Head, half, frequency on both sides: nothing leads from one frequency to another.
    assert not found[:, :, 0, :, :, 1].any()
    assert not found[:, :, 1, :, :, 0].any()
    assert found[:, :, 0, :, :, 0].any()


def test_fewer_frequencies_serve_the_nearest() -> None:
    own, other = attention(heads(style="half")), attention(heads(width=8, style="half"), seed=10)
    pairs = HeadPairs(source=(0,), target=(0,), cosines=(1.0,))
    found = query_map(pairs, own, other)[:8, :4].reshape(2, 4, 2, 2)
    assert [[bool(found[:, to, :, at].any()) for at in range(2)] for to in range(4)] == [
        [True, False],
        [True, False],
        [False, True],
        [False, True],
    ]


def test_a_target_s_group_gets_the_mean_of_what_its_queries_ask_for() -> None:
    wide = attention(heads(groups=4))
    narrow = Attention(heads=heads(), query=wide.query, key=wide.key[:8], value=wide.value[:8], output=wide.output)
    pairs = HeadPairs(source=(0, 1, 2), target=(0, 1, 2), cosines=(1.0,) * 3)
    found = value_map(pairs, wide, narrow).reshape(2, 4, 4, 4)
    single = value_map(HeadPairs(source=(0,), target=(0,), cosines=(1.0,)), wide, narrow).reshape(2, 4, 4, 4)
    torch.testing.assert_close(found[0, :, 0], single[0, :, 0] / 2)  # two queries ask
    assert found[0, :, 1].any()
    assert not found[0, :, 2:].any()
    assert found[1, :, 2].any()  # one query asks
    assert not found[1, :, 3].any()


def test_a_source_s_group_goes_to_every_head_of_its_queries() -> None:
    narrow = attention(heads())
    keys, values = narrow.of_heads()[1:3]
    wide = Attention(
        heads=heads(groups=4),
        query=narrow.query,
        key=keys.flatten(0, 1),
        value=values.flatten(0, 1),
        output=narrow.output,
    )
    pairs = pair_heads(narrow, wide)
    torch.testing.assert_close(key_map(pairs, narrow, wide) @ narrow.key, wide.key)
    torch.testing.assert_close(value_map(pairs, narrow, wide) @ narrow.value, wide.value)
    back = pairs.swapped()
    torch.testing.assert_close(key_map(back, wide, narrow) @ wide.key, narrow.key)
    torch.testing.assert_close(value_map(back, wide, narrow) @ wide.value, narrow.value)


def test_heads_that_are_not_alike_enough_are_left_out() -> None:
    own, other = attention(heads()), attention(heads(), seed=10)
    every = pair_heads(own, other, gate=-1.0 + 1e-9)
    assert sorted(every.source) == sorted(every.target) == [0, 1, 2, 3]
    gate = sorted(every.cosines)[1]
    kept = pair_heads(own, other, gate=gate)
    assert kept.cosines == tuple(cosine for cosine in every.cosines if cosine > gate)
    nothing = pair_heads(own, other, gate=0.99)
    assert nothing == HeadPairs(source=(), target=(), cosines=())
    assert not query_map(nothing, own, other).any()
    assert not value_map(nothing, own, other).any()


def test_heads_of_zeros_are_like_nothing() -> None:
    own = attention(heads())
    zero = Attention(
        heads=own.heads,
        query=own.query * 0,
        key=own.key * 0,
        value=own.value * 0,
        output=own.output * 0,
    )
    pairs = pair_heads(own, zero, gate=-0.5)
    assert pairs.cosines == (0.0,) * 4
    assert not output_map(pairs, own, zero).any()
    rotary = Attention(**{**{name: getattr(zero, name) for name in zero.__slots__}, "heads": heads(style="half")})
    assert not query_map(pairs, rotary, rotary).any()


def test_heads_in_two_bases_are_refused() -> None:
    own = attention(heads())
    narrow = Attention(
        heads=own.heads, query=own.query[:, :5], key=own.key[:, :5], value=own.value[:, :5], output=own.output[:5]
    )
    with pytest.raises(ShapeError) as caught:
        pair_heads(own, narrow)
    assert caught.value.message == "heads that read 12 and 5 features: expected one"


@LAWS
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["none", "half", "interleaved"]), st.integers(0, 99))
def test_maps_have_the_rows_of_both_sides(own_members: int, members: int, style: str, seed: int) -> None:
    own = attention(heads(queries=2 * own_members, style=style), seed=seed)
    other = attention(heads(queries=2 * members, width=6, style=style), seed=seed + 50)
    pairs = pair_heads(own, other, gate=-0.999)
    assert len(pairs.source) == len(pairs.target) == 2 * min(own_members, members)
    assert {
        "query": tuple(query_map(pairs, own, other).shape),
        "key": tuple(key_map(pairs, own, other).shape),
        "value": tuple(value_map(pairs, own, other).shape),
        "output": tuple(output_map(pairs, own, other).shape),
    } == {
        "query": (12 * members, 8 * own_members),
        "key": (12, 8),
        "value": (12, 8),
        "output": (8 * own_members, 12 * members),
    }
