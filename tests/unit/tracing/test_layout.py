"""Layouts of fused modules are told from the rows alone."""

from __future__ import annotations

import pytest

from ual_registry.tracing.layout import find_layout


@pytest.mark.parametrize(
    ("rows", "layout"),
    [
        ({"q": [0, 1, 2, 3], "k": [4, 5], "v": [6, 7]}, "contiguous"),
        ({"q": [0, 1, 6, 7], "k": [2, 3, 8, 9], "v": [4, 5, 10, 11]}, "per_head"),
        ({"q": [0, 1, 2, 3], "k": [4, 5, 6, 7]}, "contiguous"),
        ({"gate": [0, 2, 4, 6], "up": [1, 3, 5, 7]}, "interleaved"),
        ({"q": [0, 1, 3], "k": [2, 4, 5]}, None),
    ],
)
def test_the_rows_of_roles_tell_the_layout(rows: dict[str, list[int]], layout: str | None) -> None:
    assert find_layout(rows, heads=2, groups=2) == layout


def test_several_query_heads_for_each_key_are_grouped() -> None:
    rows = {"q": [0, 1, 2, 3, 8, 9, 10, 11], "k": [4, 5, 12, 13], "v": [6, 7, 14, 15]}

    assert find_layout(rows, heads=4, groups=2) == "grouped"


def test_roles_of_different_width_per_head_are_per_head() -> None:
    assert find_layout({"k": [0, 1, 2, 5, 6, 7], "v": [3, 4, 8, 9]}, heads=2, groups=2) == "per_head"
