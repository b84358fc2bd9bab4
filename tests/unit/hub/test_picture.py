"""The picture, and the numbers that it is drawn from."""

from __future__ import annotations

import dataclasses
import importlib.util
import struct

import pytest

from tests.handmade import base_model
from tests.unit.hub.card_manifests import PROJECTED, entries, transferred
from ual_registry.air.layers import layer_ranges, layer_strip
from ual_registry.air.model import Entry, Manifest, Stack
from ual_registry.hub.card_grid import Grid, Panel, layer_grid, layers_per_column
from ual_registry.hub.picture import draw_picture


def deep(depth: int, layers: tuple[int, ...]) -> Manifest:
    """Return an adapter that touches some layers of a deep base model, and its embedding."""
    embedding = Entry(
        role="token_embedding", in_features=5, out_features=4, rank=4, scaling=1.0,
        lora_A="token_embedding.lora_A", lora_B="token_embedding.lora_B",
    )  # fmt: skip
    return transferred(
        base_model=base_model(stacks=(Stack(hidden_size=4, num_layers=depth),)),
        entries=(embedding, *entries({"mlp_up": layers})),
        provenance=(),
    )


def test_the_grid_shows_the_effective_rank_where_every_entry_has_one():
    assert layer_grid(transferred()) == Grid(
        measure="effective rank",
        panels=(
            Panel(
                stack=None, roles=("attention_value", "mlp_up"), depth=2, layers_per_column=1,
                values=((1.0, 2.0), (None, 3.0)), outside=(None, None),
            ),
        ),
    )  # fmt: skip


def test_the_grid_shows_the_rank_where_nothing_else_is_recorded_and_groups_deep_stacks():
    assert layer_grid(deep(100, (0, 1, 2, 99))) == Grid(
        measure="rank",
        panels=(
            Panel(
                stack=None, roles=("mlp_up", "token_embedding"), depth=100, layers_per_column=3,
                values=((8.0, *[None] * 32, 8.0), (None,) * 34), outside=(None, 4.0),
            ),
        ),
    )  # fmt: skip


def test_the_grid_averages_experts_and_keeps_stacks_apart():
    experts = [
        dataclasses.replace(PROJECTED[2], stack="decoder", expert=expert, rank=rank)
        for expert, rank in [(0, 4), (1, 8)]
    ]
    stacks = (Stack(name="encoder", hidden_size=4, num_layers=1), Stack(name="decoder", hidden_size=4, num_layers=2))
    manifest = transferred(base_model=base_model(stacks=stacks), entries=tuple(experts), provenance=())
    grid = layer_grid(manifest)
    assert [(panel.stack, panel.values) for panel in grid.panels] == [("decoder", ((None, 6.0),))]
    assert grid.description() == (
        "Grid of the roles and layers that carry the adapter (decoder: mlp_up over 2 layers); rank 6"
    )


def test_a_manifest_that_speaks_of_a_billion_layers_costs_little():
    grid = layer_grid(deep(2_000_000_000, (0, 999_999_999)))
    assert [len(row) for row in grid.panels[0].values] == [48, 48]
    assert (
        layer_strip((0, 999_999_999), 2_000_000_000, layers_per_column(2_000_000_000))
        == "+" + "." * 22 + "+" + "." * 24
    )


@pytest.mark.parametrize(
    ("layers", "whole", "text"), [((3,), None, "3"), ((0, 2, 4), 9, "0, 2, 4"), ((0, 2, 4, 6), None, "4")]
)
def test_layers_are_written_as_ranges_while_these_are_few(layers: tuple[int, ...], whole: int | None, text: str):
    assert layer_ranges(layers, whole) == text


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert draw_picture(transferred()) is None


@pytest.mark.parametrize(
    "manifest",
    [transferred(), deep(100, (0, 1, 2, 99)), deep(2_000_000_000, (0, 999_999_999)), deep(20, tuple(range(20)))],
    ids=["measured", "deep", "absurd", "ranks"],
)
def test_the_picture_is_the_same_png_each_time(manifest: Manifest):
    matplotlib = pytest.importorskip("matplotlib")
    first = draw_picture(manifest)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        assert draw_picture(manifest) == first
    assert first is not None
    assert (first[:8], first[12:16]) == (b"\x89PNG\r\n\x1a\n", b"IHDR")
    width, height = struct.unpack(">II", first[16:24])
    assert (300 <= width <= 2400, 100 <= height <= 1200) == (True, True)
    assert (b"tEXt" in first, b"matplotlib" in first.lower()) == (False, False)
